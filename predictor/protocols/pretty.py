"""TorchServe's way of writing JSON and errors, for its inference and its management API."""

from __future__ import annotations

import json
from typing import Any

from predictor.errors import PayloadTooLarge, PredictorError, Unavailable, WorkTooLarge
from predictor.http.messages import HttpResponse
from predictor.protocols.requests import retry_headers


def pretty_text(value: Any) -> str:
    """Return `value` as the front end of TorchServe writes JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def pretty_json(value: Any, status: int = 200) -> HttpResponse:
    """Return a response of JSON."""
    return HttpResponse(status, pretty_text(value).encode("utf-8"), [("content-type", "application/json")])


def render_error(error: PredictorError) -> HttpResponse:
    """Return TorchServe's error body; the 413 of a large request has none."""
    if isinstance(error, PayloadTooLarge) and not isinstance(error, WorkTooLarge):
        return HttpResponse(413, close=True, bare=True)
    status = error.torchserve_status or error.status
    body = {"code": status, "type": error.torchserve_type, "message": error.torchserve_message}
    response = pretty_json(body, status)
    response.close = True
    if isinstance(error, Unavailable):
        response.headers += retry_headers(error)
    return response
