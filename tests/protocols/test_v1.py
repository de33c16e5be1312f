from __future__ import annotations

import pytest
from protocol_fakes import FakeModel, call, header, parsed, registry

from predictor.errors import HandlerFailed, InvalidInput, ModelNotReady, PayloadTooLarge, ResponseTimeout
from predictor.ipc.messages import Envelope, InferenceResult, Verb
from predictor.protocols.v1 import V1Protocol


@pytest.fixture
def model():
    return FakeModel("m")


@pytest.fixture
def protocol(model):
    return V1Protocol(registry(model, FakeModel("a")))


async def test_the_list_of_models(protocol):
    for path in ("/v1/models", "/v1/models/"):
        assert parsed(await call(protocol, "GET", path)) == {"models": ["a", "m"]}


async def test_readiness_of_a_model(protocol, model):
    response = await call(protocol, "GET", "/v1/models/m")
    assert (response.status, parsed(response)) == (200, {"name": "m", "ready": True})
    model.ready = False
    response = await call(protocol, "GET", "/v1/models/m")
    assert (response.status, parsed(response)) == (503, {"name": "m", "ready": False})


@pytest.mark.parametrize(("verb", "expected"), [("predict", Verb.PREDICT), ("explain", Verb.EXPLAIN)])
async def test_verbs(protocol, model, verb, expected):
    model.result = InferenceResult(body=b"{}", headers=[("content-type", "application/json")])
    response = await call(protocol, "POST", f"/v1/models/m:{verb}", b"[]")
    assert (response.status, response.body, response.phrase) == (200, b"{}", None)
    (seen,) = model.seen
    assert (seen.verb, seen.envelope, seen.body, seen.url_path) == (expected, Envelope.V1, b"[]", None)


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json", "text/plain"],
)
async def test_content_types_that_mean_json(protocol, content_type):
    response = await call(protocol, "POST", "/v1/models/m:predict", headers=[("content-type", content_type)])
    assert response.status == 200


@pytest.mark.parametrize(
    "content_type", ["image/png", "multipart/form-data; boundary=x", "application/jsonx"]
)
async def test_content_types_that_do_not(protocol, model, content_type):
    response = await call(protocol, "POST", "/v1/models/m:predict", headers=[("content-type", content_type)])
    assert response.status == 400
    assert "is not JSON" in parsed(response)["error"]
    assert model.seen == []


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v1/models/m:predict", 405, "POST"),
        ("POST", "/v1/models", 405, "GET, HEAD"),
        ("POST", "/v1/models/m", 405, "GET, HEAD"),
        ("POST", "/v1/models/m:train", 404, None),
        ("POST", "/v1/models/nope:predict", 404, None),
        ("GET", "/v1/models/nope", 404, None),
    ],
)
async def test_wrong_methods_names_and_verbs(protocol, method, path, status, allow):
    response = await call(protocol, method, path)
    assert response.status == status
    assert list(parsed(response)) == ["error"]
    assert header(response, "allow") == allow


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("x"), 400),
        (PayloadTooLarge("x"), 413),
        (HandlerFailed("x"), 500),
        (ModelNotReady("x", "m", 5), 503),
        (ResponseTimeout("x"), 504),
    ],
)
async def test_errors(protocol, model, error, status):
    model.error = error
    response = await call(protocol, "POST", "/v1/models/m:predict")
    assert (response.status, parsed(response)) == (status, {"error": "x"})
    assert header(response, "retry-after") == ("5" if status == 503 else None)
