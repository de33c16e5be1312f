"""`POST /predict`: a JSON object of named inputs in, one of named outputs out (GPUX's contract)."""

from __future__ import annotations

import orjson

from predictor.errors import MethodNotAllowed, ModelNotReady, PredictorError, ResourceNotFound, Unavailable
from predictor.http.coding import CodedProtocol
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.ipc.messages import Envelope, TensorSpec, Verb
from predictor.protocols import kserve
from predictor.protocols.requests import inference_request, retry_headers
from predictor.serving.model import ServedModel
from predictor.serving.registry import Registry


class NamedProtocol(CodedProtocol):
    """Answers `/predict`, `/predict/{model}`, `/health` and `/info`."""

    label = "named"

    def __init__(self, registry: Registry, default_model: str = "") -> None:
        """Serve the models of `registry`; `default_model` answers where the path names none."""
        self._registry = registry
        self._default_model = default_model

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        first, *rest = request.segments
        name = "/".join(rest)
        if first == "predict":
            kserve.require_method(request, "POST")
            model = self._model(name)
            result = await model.infer(inference_request(request, Verb.PREDICT, Envelope.NAMED))
            return HttpResponse(result.status, result.body, list(result.headers), result.phrase or None)
        kserve.require_method(request, "GET", "HEAD")
        if first == "health":
            return self._health(name, request.trusted)
        return json_response(orjson.dumps(_describe(self._model(name))))

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return `{"detail": message}` with the error's status."""
        status = error.status
        message = f"Inference failed: {error.message}" if status == 500 else error.message
        allowed = ", ".join(error.allowed) if isinstance(error, MethodNotAllowed) else ""
        if allowed:
            message += f" Allowed: {allowed}."
        response = json_response(orjson.dumps({"detail": message}), status)
        if allowed:
            response.headers.append(("Allow", allowed))
        if isinstance(error, Unavailable):
            response.headers += retry_headers(error)
        return response

    def _health(self, name: str, tell_names: bool) -> HttpResponse:
        models = [self._registry.get(name)] if name else self._registry.models()
        if not models or not all(model.ready for model in models):
            first = models[0].name if models else "none"
            raise ModelNotReady("not every model is ready", first)
        if not tell_names:
            return json_response(b'{"status":"healthy"}')
        healthy: dict[str, object] = {"status": "healthy", "model": models[0].name}
        if len(models) > 1:
            healthy["models"] = self._registry.names()
        return json_response(orjson.dumps(healthy))

    def _model(self, name: str) -> ServedModel:
        """Return the model that is named, else the default, else the only one.

        Raises:
            ResourceNotFound: several could be meant; the message lists them.
        """
        name = name or self._default_model
        if name:
            return self._registry.get(name)
        names = self._registry.names()
        if len(names) != 1:
            listed = ", ".join(names) or "none is loaded"
            raise ResourceNotFound(f"Which model? Use /predict/{{model}}; models: {listed}")
        return self._registry.get(names[0])


def _describe(model: ServedModel) -> dict[str, object]:
    info = model.info
    return {
        "name": model.name,
        "version": model.version,
        "format": "pytorch",
        "description": info.description,
        "inputs": [_spec(spec) for spec in info.inputs],
        "outputs": [_spec(spec) for spec in info.outputs],
        "classes": list(info.classes),
    }


def _spec(spec: TensorSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "type": spec.dtype,
        "kind": spec.kind,
        "shape": [-1, *spec.shape],
        "description": spec.description,
    }
