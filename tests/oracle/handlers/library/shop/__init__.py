from shop.pricing.rules import price

__all__ = ["price"]
