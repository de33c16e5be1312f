"""A registry of models that answer what the test wants."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from predictor.errors import PredictorError
from predictor.http.messages import HttpRequest, HttpResponse
from predictor.ipc.messages import InferenceRequest, InferenceResult, ModelInfo
from predictor.serving.model import ModelState
from predictor.serving.registry import Registry


class FakeJob:
    def __init__(self, parts):
        self.stream = object() if parts else None
        self.parts = parts


class FakePolicy:
    min_workers = 1


class FakeModel:
    """Stands in for `ServedModel`: notes requests, answers `result`, or raises `error`."""

    def __init__(self, name, version="1.0", info=None):
        self.name, self.version = name, version
        self.info = info or ModelInfo()
        self.policy = FakePolicy()
        self.ready = self.healthy = True
        self.state = ModelState.READY
        self.error: PredictorError | None = None
        self.result = InferenceResult(body=b"answer")
        self.later: list[bytes] = []
        self.seen: list[InferenceRequest] = []

    async def begin(self, request):
        self.seen.append(request)
        if self.error is not None:
            raise self.error
        return FakeJob(self.later), self.result

    async def infer(self, request):
        return (await self.begin(request))[1]

    async def parts(self, job) -> AsyncIterator[InferenceResult]:
        for body in job.parts:
            yield InferenceResult(body=body)


def registry(*models) -> Registry:
    made = Registry()
    for model in models:
        made.add(model)
    made.started = True
    return made


async def call(protocol, method, path, body=b"", query="", headers=()) -> HttpResponse:
    """Send one request through a protocol, errors rendered as the application does."""
    request = HttpRequest(method, path, query, list(headers), "req-1")
    request.body = body
    try:
        return await protocol.handle(request)
    except PredictorError as error:
        return protocol.render_error(error)


def header(response: HttpResponse, name: str) -> str | None:
    return next((value for key, value in response.headers if key.lower() == name), None)


def parsed(response: HttpResponse):
    return json.loads(response.body)
