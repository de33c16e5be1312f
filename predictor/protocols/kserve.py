"""What KServe's V1 and health routes share: the error body, and readiness."""

from __future__ import annotations

import orjson

from predictor.errors import MethodNotAllowed, PredictorError, Unavailable
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.protocols.requests import retry_headers


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
