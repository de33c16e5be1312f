"""KServe's V1 protocol: `{"instances": [...]}` in, `{"predictions": [...]}` out.

What comes in a CloudEvent is answered in one, which is the worker's business (`runtime/cloudevents.py`).
"""

from __future__ import annotations

import orjson

from predictor.errors import InvalidInput, PredictorError, ResourceNotFound
from predictor.http.coding import CodedProtocol
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.ipc.messages import Envelope, Verb
from predictor.oip.media import is_json, media_type_of
from predictor.protocols import kserve
from predictor.protocols.requests import inference_request
from predictor.serving.registry import Registry

_VERBS = {"predict": Verb.PREDICT, "explain": Verb.EXPLAIN}


class V1Protocol(CodedProtocol):
    """Answers `/v1/models...`."""

    label = "v1"

    def __init__(self, registry: Registry) -> None:
        """Serve the models of `registry`."""
        self._registry = registry

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        segments = request.segments[2:]
        if not segments:
            kserve.require_method(request, "GET", "HEAD")
            return json_response(orjson.dumps({"models": self._registry.names()}))
        name, colon, verb = "/".join(segments).rpartition(":")
        if not colon:
            kserve.require_method(request, "GET", "HEAD")
            if len(segments) > 1 and segments[-1] == "explain":
                return self._explain_methods("/".join(segments[:-1]))
            return self._ready(verb)
        if verb not in _VERBS:
            raise ResourceNotFound(f"Unknown verb ':{verb}'; known are :predict and :explain")
        kserve.require_method(request, "POST")
        _check_media_type(request)
        model = self._registry.get(name)
        message = inference_request(request, _VERBS[verb], Envelope.V1)
        message.model = (name, model.version)
        result = await model.infer(message)
        return HttpResponse(result.status, result.body, list(result.headers), result.phrase or None)

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return V1's error body."""
        return kserve.render_error(error)

    def _explain_methods(self, name: str) -> HttpResponse:
        """Tell which methods explain a model, with their parameters, defaults and costs."""
        methods = self._registry.get(name).info.explain
        if not methods:
            raise ResourceNotFound(f"The handler of model '{name}' does not tell how it explains")
        return json_response(orjson.dumps({"name": name, **methods}))

    def _ready(self, name: str) -> HttpResponse:
        model = self._registry.get(name)
        return json_response(orjson.dumps({"name": name, "ready": model.ready}), 200 if model.ready else 503)


def _check_media_type(request: HttpRequest) -> None:
    """Accept JSON, with any parameters, and a missing type, which KServe's batching agent sends.

    An event's headers stand for themselves: its data may be anything.

    Raises:
        InvalidInput: the client says that it sends something else.
    """
    content_type = request.header("content-type")
    if not is_json(content_type) and not request.header("ce-specversion"):
        raise InvalidInput(
            f"Content-Type '{media_type_of(content_type)}' is not JSON; V1 takes application/json"
        )
