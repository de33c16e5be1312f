"""What KServe's V1, V2 and health routes share: the error body, and readiness."""

from __future__ import annotations

import orjson

from predictor.errors import InvalidInput, MethodNotAllowed, PredictorError, Unavailable
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.protocols.requests import retry_headers


class ControlDisabled(PredictorError):
    """Models may not be loaded or unloaded through this server."""

    status = 403

    def __init__(self, action: str) -> None:
        """Name the `action` that was asked for."""
        super().__init__(
            f"Model control is off: this server does not {action} models on request; "
            "its setting enable_model_api allows it"
        )


def bad_json(error: Exception) -> InvalidInput:
    """Return the client's error for a body that is not JSON."""
    return InvalidInput(f"Invalid JSON: {error}")


def render_error(error: PredictorError) -> HttpResponse:
    """Return `{"error": message}` with the error's status."""
    response = json_response(orjson.dumps({"error": error.message}), error.status)
    if isinstance(error, Unavailable):
        response.headers += retry_headers(error)
    if isinstance(error, MethodNotAllowed) and error.allowed:
        response.headers.append(("Allow", ", ".join(error.allowed)))
    return response


def require_method(request: HttpRequest, *allowed: str) -> None:
    """Check the method of a request.

    Raises:
        MethodNotAllowed: it is another one.
    """
    if request.method not in allowed:
        raise MethodNotAllowed(allowed)
