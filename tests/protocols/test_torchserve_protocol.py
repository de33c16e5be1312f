from __future__ import annotations

import json

import pytest
from protocol_fakes import FakeModel, call, header, parsed, registry

from predictor.errors import (
    HandlerFailed,
    HandlerStatus,
    InvalidInput,
    InvalidOutput,
    OutOfResources,
    PayloadTooLarge,
    QueueFull,
    ResponseTimeout,
    WorkerDied,
    WorkTooLarge,
)
from predictor.ipc.messages import Envelope, InferenceResult, Verb
from predictor.protocols.torchserve import TorchServeProtocol

_NO_WORKER = (
    'Model "m" has no worker to serve inference request. Please use scale workers API to add workers. '
    "If this is a sequence inference, please check if it is closed, or expired; "
    "or exceeds maxSequenceJobQueueSize"
)


@pytest.fixture
def model():
    return FakeModel("m")


@pytest.fixture
def protocol(model):
    return TorchServeProtocol(registry(model, FakeModel("m", "2.0")))


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "HEAD"])
async def test_every_method_runs_the_model(protocol, model, method):
    response = await call(protocol, method, "/predictions/m", b"x")
    assert (response.status, response.body, response.phrase) == (200, b"answer", "")
    assert header(response, "content-type") is None
    (seen,) = model.seen
    assert (seen.verb, seen.envelope, seen.body) == (Verb.PREDICT, Envelope.TORCHSERVE, b"x")
    assert seen.request_id == "req-1"


async def test_versions_and_what_follows_them(protocol, model):
    await call(protocol, "POST", "/predictions/m")
    await call(protocol, "POST", "/predictions/m/1.0")
    await call(protocol, "POST", "/predictions/m/1.0/a/b")
    assert [seen.url_path for seen in model.seen] == ["", "", "a/b"]


async def test_explanations(protocol, model):
    await call(protocol, "POST", "/explanations/m/1.0")
    assert model.seen[0].verb is Verb.EXPLAIN


async def test_headers_and_content_type_travel(protocol, model):
    await call(protocol, "POST", "/predictions/m", headers=[("Content-Type", "text/plain"), ("X-A", "1")])
    assert model.seen[0].content_type == "text/plain"
    assert ("X-A", "1") in model.seen[0].headers


async def test_query_parameters_are_dropped(protocol, model):
    await call(protocol, "POST", "/predictions/m", query="a=1")
    assert model.seen[0].fields == []


@pytest.mark.parametrize(
    "path", ["/m/predict", "/m/1.0/predict", "/models/m/invoke", "/invocations"], ids=str
)
async def test_old_paths_make_fields_of_query_parameters(protocol, model, path):
    query = "model_name=m&a=1" if path == "/invocations" else "a=1"
    await call(protocol, "POST", path, query=query)
    (seen,) = model.seen
    assert ("a", "1") in seen.fields
    assert seen.url_path is None


async def test_invocations_without_a_name(model):
    one = TorchServeProtocol(registry(model))
    assert (await call(one, "POST", "/invocations")).status == 200
    many = TorchServeProtocol(registry(model, FakeModel("n")))
    response = await call(many, "POST", "/invocations")
    assert parsed(response) == {
        "code": 400,
        "type": "BadRequestException",
        "message": "Parameter model_name is required.",
    }


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("/predictions/nope", "ModelNotFoundException", "Model not found: nope"),
        (
            "/predictions/m/9.9",
            "ModelVersionNotFoundException",
            "Model version: 9.9 does not exist for model: m",
        ),
        *(
            (
                path,
                "ResourceNotFoundException",
                "Requested resource is not found, please refer to API document.",
            )
            for path in ("/predictions", "/predictions/", "/foo", "/foo/bar", "/models", "/api-description/x")
        ),
    ],
)
async def test_what_is_not_there(protocol, path, kind, message):
    response = await call(protocol, "GET", path)
    assert response.status == 404
    assert response.close
    assert list(parsed(response).items()) == [("code", 404), ("type", kind), ("message", message)]


async def test_the_root_is_for_options_only(protocol):
    response = await call(protocol, "POST", "/")
    assert response.status == 405
    assert parsed(response)["type"] == "MethodNotAllowedException"
    assert parsed(await call(protocol, "OPTIONS", "/"))["openapi"] == "3.0.1"
    assert parsed(await call(protocol, "GET", "/api-description"))["openapi"] == "3.0.1"


@pytest.mark.parametrize("path", ["/predictions/m", "/explanations/m", "/predictions/m/2.0"])
async def test_a_models_own_document(protocol, model, path):
    response = await call(protocol, "OPTIONS", path)
    assert parsed(response)["info"]["title"] == "RESTful API for: m"
    assert model.seen == []


async def test_ping(protocol, model):
    response = await call(protocol, "DELETE", "/ping/anything")
    assert response.status == 200
    assert response.body == b'{\n  "status": "Healthy"\n}\n'
    model.healthy = False
    response = await call(protocol, "GET", "/ping")
    assert response.status == 500
    assert parsed(response) == {"status": "Unhealthy"}


async def test_ping_before_the_start_is_over():
    fresh = registry()
    fresh.started = False
    assert (await call(TorchServeProtocol(fresh), "GET", "/ping")).status == 500


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (HandlerFailed("model 'm' failed: ValueError"), 503, "Prediction failed"),
        (HandlerStatus("too dark", 418), 418, "too dark"),
        (OutOfResources("x"), 507, "Out of resources"),
        (InvalidOutput("number of batch response mismatched"), 503, "number of batch response mismatched"),
        (WorkerDied("x"), 500, "Worker died."),
        (ResponseTimeout("x"), 500, "Worker died."),
    ],
)
async def test_errors_of_workers(protocol, model, error, status, message):
    model.error = error
    response = await call(protocol, "POST", "/predictions/m")
    assert (response.status, response.phrase, response.close) == (status, None, True)
    assert parsed(response) == {"code": status, "type": "InternalServerException", "message": message}
    assert header(response, "content-type") == "application/json"
    assert response.body.endswith(b"\n}\n")


async def test_a_full_queue(protocol, model):
    model.error = QueueFull("full", "m", 7)
    response = await call(protocol, "POST", "/predictions/m")
    assert response.status == 503
    assert header(response, "retry-after") == "7"
    assert parsed(response) == {"code": 503, "type": "ServiceUnavailableException", "message": _NO_WORKER}


async def test_bad_input(protocol, model):
    model.error = InvalidInput("Missing required input: 'x'")
    response = await call(protocol, "POST", "/predictions/m")
    assert parsed(response)["type"] == "BadRequestException"
    assert response.status == 400


async def test_too_large_has_no_body_and_no_header(protocol, model):
    model.error = PayloadTooLarge("x")
    response = await call(protocol, "POST", "/predictions/m")
    assert (response.status, response.body, response.bare, response.close) == (413, b"", True, True)


async def test_a_small_request_that_asks_for_too_much_is_told_so(protocol, model):
    model.error = WorkTooLarge("This explanation would send 9 rows")
    response = await call(protocol, "POST", "/explanations/m")
    assert response.status == 413
    assert parsed(response)["message"] == "This explanation would send 9 rows"


async def test_what_the_handler_chose(protocol, model):
    model.result = InferenceResult(201, "Made", [("Content-Type", "text/x"), ("a", "b")], b"made")
    response = await call(protocol, "POST", "/predictions/m")
    assert (response.status, response.phrase, response.close) == (201, "Made", False)
    assert response.headers == [("Content-Type", "text/x"), ("a", "b")]
    model.result = InferenceResult(404, "", [], b"none")
    assert (await call(protocol, "POST", "/predictions/m")).close


async def test_streams(protocol, model):
    model.result = InferenceResult(200, "", [("ts_stream_next", "true")], b"1")
    model.later = [b"2", b"3"]
    response = await call(protocol, "POST", "/predictions/m")
    assert response.body == b"1"
    assert [part async for part in response.stream] == [b"2", b"3"]


async def test_names_outside_ascii_stay_readable(protocol):
    response = await call(protocol, "GET", "/predictions/\u00fc")
    assert "\u00fc" in response.body.decode()
    assert json.loads(response.body)["code"] == 404
