from .base import BASE


def price(count):
    return count * BASE
