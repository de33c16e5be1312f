"""TorchServe's inference API, to the letter: paths, bodies, statuses, error texts.

The source is a running TorchServe 0.12; `tests/oracle` holds its answers. What we do otherwise on
purpose is listed in `docs/torchserve.md`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from predictor.errors import (
    InvalidInput,
    MethodNotAllowed,
    PredictorError,
    ResourceNotFound,
)
from predictor.http.coding import CodedProtocol
from predictor.http.messages import HttpRequest, HttpResponse
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.protocols import openapi
from predictor.protocols.pretty import pretty_json, render_error
from predictor.protocols.requests import inference_request
from predictor.serving.job import Job
from predictor.serving.model import ServedModel
from predictor.serving.registry import Registry

# The standard phrase goes with errors only: a prediction's status line has none.
_NO_PHRASE = ""


class TorchServeProtocol(CodedProtocol):
    """Answers TorchServe's inference port."""

    label = "torchserve"

    def __init__(self, registry: Registry) -> None:
        """Serve the models of `registry`."""
        self._registry = registry

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request; see the table of paths in the contract."""
        segments = request.segments
        first = segments[0] if segments else ""
        if not first:
            return self._root(request)
        if first == "ping":
            return self._ping()
        if first == "api-description" and len(segments) == 1:
            return pretty_json(openapi.inference_api())
        if first in ("predictions", "explanations") and len(segments) > 1:
            return await self._inference(request, Verb.PREDICT if first == "predictions" else Verb.EXPLAIN)
        if len(segments) in (2, 3) and segments[-1] == "predict":
            version = segments[1] if len(segments) == 3 else None
            return await self._legacy(request, segments[0], version)
        if first == "invocations" and len(segments) == 1:
            return await self._legacy(request, self._invoked_model(request), None)
        if first == "models" and len(segments) == 3 and segments[2] == "invoke":
            return await self._legacy(request, segments[1], None)
        raise ResourceNotFound

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return TorchServe's error body."""
        return render_error(error)

    def inflates(self, request: HttpRequest) -> bool:
        """Say whether no handler reads the body: TorchServe hands it over in the coding that it came in."""
        first, *rest = request.segments or [""]
        if first not in ("predictions", "explanations") or not rest:
            return False
        return bool(self._registry.get(rest[0], rest[1] if len(rest) > 1 else None).info.inputs)

    def _root(self, request: HttpRequest) -> HttpResponse:
        if request.method != "OPTIONS":
            raise MethodNotAllowed
        return pretty_json(openapi.inference_api())

    def _ping(self) -> HttpResponse:
        """Say whether every model has, or recently had, the workers it must have."""
        if self._registry.serving:
            return pretty_json({"status": "Healthy"})
        return pretty_json({"status": "Unhealthy"}, 500)

    async def _inference(self, request: HttpRequest, verb: Verb) -> HttpResponse:
        _, name, *rest = request.segments
        version = rest[0] if rest else None
        model = self._registry.get(name, version)
        if request.method == "OPTIONS":
            return pretty_json(openapi.model_api(model))
        return await _answer(model, inference_request(request, verb, Envelope.TORCHSERVE, "/".join(rest[1:])))

    async def _legacy(self, request: HttpRequest, name: str, version: str | None) -> HttpResponse:
        """Answer the paths on which query parameters are data fields."""
        model = self._registry.get(name, version)
        message = inference_request(request, Verb.PREDICT, Envelope.TORCHSERVE, None)
        message.fields = request.query()
        return await _answer(model, message)

    def _invoked_model(self, request: HttpRequest) -> str:
        """Return the model that SageMaker's path means: the one named, else the only one."""
        named = dict(request.query()).get("model_name")
        if named is not None:
            return named
        names = self._registry.names()
        if len(names) != 1:
            raise InvalidInput("Parameter model_name is required.")
        return names[0]


async def _answer(model: ServedModel, message: InferenceRequest) -> HttpResponse:
    """Run the model and return its answer, streamed if it streams."""
    job, result = await model.begin(message)
    response = HttpResponse(
        result.status,
        result.body,
        list(result.headers),
        result.phrase or _NO_PHRASE,
        close=result.status >= 400,
    )
    if job.stream is not None:
        response.stream = _bodies(model, job)
    return response


async def _bodies(model: ServedModel, job: Job) -> AsyncIterator[bytes]:
    """Yield the bodies of the further parts of a streamed answer."""
    async for part in model.parts(job):
        yield part.body
