"""`Context` and `RequestProcessor` under the name handlers import them by."""

from predictor.handlers.context import Context, RequestProcessor

__all__ = ["Context", "RequestProcessor"]
