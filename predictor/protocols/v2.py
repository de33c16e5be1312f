"""KServe's V2 protocol over REST, the Open Inference Protocol: named tensors in, named tensors out.

Only paths and metadata are dealt with here. A request's body goes to the worker as it came, and the
answer comes back as it goes out (`runtime/v2_rest.py`).
"""

from __future__ import annotations

from typing import Any

import orjson

from predictor import __version__
from predictor.errors import PredictorError, ResourceNotFound
from predictor.http.coding import CodedProtocol
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.ipc.messages import Envelope, Verb
from predictor.protocols import inference, kserve
from predictor.protocols.requests import inference_request
from predictor.serving.manager import ModelManager
from predictor.serving.model import ServedModel
from predictor.serving.registry import Registry

_VERBS = {"infer": Verb.PREDICT, "explain": Verb.EXPLAIN}


class V2Protocol(CodedProtocol):
    """Answers `/v2`, `/v2/models...` and `/v2/repository...`."""

    label = "v2"

    def __init__(self, registry: Registry, manager: ModelManager | None = None) -> None:
        """Serve the models of `registry`; clients may load and unload them where there is a `manager`."""
        self._registry = registry
        self._manager = manager

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        segments = request.segments[1:]
        if not segments:
            kserve.require_method(request, "GET", "HEAD")
            return _json(inference.server_metadata(__version__))
        if segments[0] == "repository":
            return await self._repository(request, segments[1:])
        if segments[0] != "models":
            raise ResourceNotFound(f"No such path: {request.path}")
        if len(segments) == 1:
            kserve.require_method(request, "GET", "HEAD")
            return _json({"models": self._registry.names()})
        return await self._model(request, segments[1], segments[2:])

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return V2's error body."""
        return kserve.render_error(error)

    async def _model(self, request: HttpRequest, name: str, rest: list[str]) -> HttpResponse:
        """Answer what follows `/v2/models/{name}`."""
        version = None
        if len(rest) > 1 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        action = "/".join(rest)
        if action in _VERBS:
            kserve.require_method(request, "POST")
            return await self._infer(request, self._registry.get(name, version), _VERBS[action])
        if action not in ("", "ready"):
            raise ResourceNotFound(f"No such path: {request.path}")
        kserve.require_method(request, "GET", "HEAD")
        model = self._registry.get(name, version)
        if action == "ready":
            return _json({"name": name, "ready": model.ready}, 200 if model.ready else 503)
        return _json(inference.model_metadata(self._registry, model, name))

    async def _infer(self, request: HttpRequest, model: ServedModel, verb: Verb) -> HttpResponse:
        message = inference_request(request, verb, Envelope.V2)
        # The worker goes by the header that tells the JSON's length; this field is the gRPC server's.
        message.content_type = ""
        message.model = (model.name, model.version)
        result = await model.infer(message)
        return HttpResponse(result.status, result.body, list(result.headers), result.phrase or None)

    async def _repository(self, request: HttpRequest, rest: list[str]) -> HttpResponse:
        """Answer what follows `/v2/repository`: the index, and what changes it."""
        if rest == ["index"]:
            kserve.require_method(request, "GET", "HEAD", "POST")
            return _json(inference.repository_index(self._registry, _only_ready(bytes(request.body))))
        if len(rest) == 3 and rest[0] == "models" and rest[2] in ("load", "unload"):
            kserve.require_method(request, "POST")
            return _json(await self._control(rest[2], rest[1], bytes(request.body)))
        raise ResourceNotFound(f"No such path: {request.path}")

    async def _control(self, action: str, name: str, body: bytes) -> dict[str, Any]:
        """Load or unload a model, where that is allowed."""
        if self._manager is None:
            raise kserve.ControlDisabled(action)
        if action == "load":
            inference.check_load(_parameters(body))
            await self._manager.load(name)
        else:
            await self._manager.unload(name)
        return {"name": name, action: True}


def _only_ready(body: bytes) -> bool:
    """Read the body of a request for the index, which may say `{"ready": true}`."""
    return _object(body).get("ready") is True


def _parameters(body: bytes) -> list[str]:
    """Return the names of the parameters of a request to load a model."""
    parameters = _object(body).get("parameters")
    return list(parameters) if isinstance(parameters, dict) else []


def _object(body: bytes) -> dict[str, Any]:
    """Parse a body that may be missing; what is JSON and no object says nothing."""
    try:
        document = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise kserve.bad_json(error) from error
    return document if isinstance(document, dict) else {}


def _json(value: Any, status: int = 200) -> HttpResponse:
    return json_response(orjson.dumps(value), status)
