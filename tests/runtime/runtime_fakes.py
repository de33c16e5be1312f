"""Requests and handlers for tests of the worker's side."""

from __future__ import annotations

from predictor.handlers.context import Context
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.runtime.loader import LoadedHandler
from predictor.runtime.service import Service

# Bytes, JSON and text as clients send them to TorchServe's routes, V1 and /predict.
TORCHSERVE, V1, NAMED = Envelope.TORCHSERVE, Envelope.V1, Envelope.NAMED


def request(
    body=b"",
    envelope=TORCHSERVE,
    *,
    content_type="",
    verb=Verb.PREDICT,
    headers=(),
    url_path="",
    fields=(),
    request_id="id-1",
) -> InferenceRequest:
    return InferenceRequest(
        request_id=request_id,
        verb=verb,
        envelope=envelope,
        headers=list(headers),
        content_type=content_type,
        url_path=url_path if envelope is TORCHSERVE else None,
        fields=list(fields),
        body=body if isinstance(body, bytes) else body.encode(),
    )


def make_context(directory="/m") -> Context:
    return Context("m", str(directory), {"model": {}}, 8, None, model_yaml_config={})


def make_service(handle, instance=None, max_response_size=10_000) -> Service:
    handler = LoadedHandler(handle, instance, "fake")
    return Service(handler, make_context(), decode_input=True, max_response_size=max_response_size)


class Parts:
    """Collects the parts that are sent ahead."""

    def __init__(self):
        self.sent = []

    def __call__(self, position, result):
        self.sent.append((position, result))


def run(service, *requests):
    return service.run(list(requests), Parts())
