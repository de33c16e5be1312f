"""What the protocols share: from an HTTP request to the message a worker gets, and back from errors."""

from __future__ import annotations

from predictor.errors import Unavailable
from predictor.http.messages import HttpRequest
from predictor.ipc.messages import Envelope, InferenceRequest, Verb


def inference_request(
    request: HttpRequest, verb: Verb, envelope: Envelope, url_path: str | None = None
) -> InferenceRequest:
    """Return the message for a worker; the body goes along as it came."""
    return InferenceRequest(
        request_id=request.request_id,
        verb=verb,
        envelope=envelope,
        headers=request.headers,
        content_type=request.header("content-type"),
        url_path=url_path,
        body=request.body,
    )


def retry_headers(error: Unavailable) -> list[tuple[str, str]]:
    """Return the header that tells a refused client when to come back."""
    return [("Retry-After", str(error.retry_after))]
