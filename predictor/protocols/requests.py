"""What the protocols share: from an HTTP request to the message a worker gets, and back from errors."""

from __future__ import annotations

import uuid
from typing import cast

from predictor.errors import Unavailable
from predictor.http.messages import HttpRequest
from predictor.ipc.messages import Envelope, InferenceRequest, Verb


def inference_request(
    request: HttpRequest, verb: Verb, envelope: Envelope, url_path: str | None = None
) -> InferenceRequest:
    """Return the message for a worker; the body goes along as it came."""
    return InferenceRequest(
        request_id=unique_id(request.request_id, request.header("x-request-id")),
        verb=verb,
        envelope=envelope,
        headers=request.headers,
        content_type=request.header("content-type"),
        url_path=url_path,
        body=cast(bytes, request.body),
    )


def unique_id(request_id: str, chosen: str) -> str:
    """Return an id for the handler, which keys its state by it: no two requests may share one.

    Args:
        request_id: the id in the log and the response.
        chosen: the id that the client asked for, "" if it was made here and so is unique already.
    """
    return f"{request_id}.{uuid.uuid4().hex[:12]}" if chosen else request_id


def retry_headers(error: Unavailable) -> list[tuple[str, str]]:
    """Return the header that tells a refused client when to come back."""
    return [("Retry-After", str(error.retry_after))]
