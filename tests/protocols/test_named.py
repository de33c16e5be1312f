from __future__ import annotations

import pytest
from protocol_fakes import FakeModel, call, header, parsed, registry

from predictor.errors import HandlerFailed, InvalidInput, QueueFull
from predictor.ipc.messages import Envelope, InferenceResult, ModelInfo, TensorSpec
from predictor.protocols.named import NamedProtocol

_INFO = ModelInfo(
    "SignatureHandler",
    "tells things apart",
    (TensorSpec("x", "float32", (4,), "tensor", "four numbers"),),
    (TensorSpec("y", "float32", ()),),
    ("a", "b"),
)


@pytest.fixture
def model():
    return FakeModel("m", info=_INFO)


@pytest.fixture
def protocol(model):
    return NamedProtocol(registry(model))


async def test_the_only_model_needs_no_name(protocol, model):
    model.result = InferenceResult(body=b'{"y": 1}')
    response = await call(protocol, "POST", "/predict", b'{"x": 1}')
    assert (response.status, response.body) == (200, b'{"y": 1}')
    assert model.seen[0].envelope is Envelope.NAMED
    assert (await call(protocol, "POST", "/predict/m")).status == 200


async def test_several_models_need_a_name_or_a_default(model):
    many = NamedProtocol(registry(model, FakeModel("n")))
    response = await call(many, "POST", "/predict")
    assert response.status == 404
    assert "m, n" in parsed(response)["detail"]
    with_default = NamedProtocol(registry(model, FakeModel("n")), "m")
    assert (await call(with_default, "POST", "/predict")).status == 200
    assert len(model.seen) == 1


async def test_an_unknown_model(protocol):
    response = await call(protocol, "POST", "/predict/nope")
    assert (response.status, parsed(response)) == (404, {"detail": "Model not found: nope (served: m)"})


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (InvalidInput("Missing required input: 'x'"), 400, "Missing required input: 'x'"),
        (HandlerFailed("it broke"), 500, "Inference failed: it broke"),
        (QueueFull("full", "m", 3), 503, "full"),
    ],
)
async def test_errors_are_always_a_detail_text(protocol, model, error, status, detail):
    model.error = error
    response = await call(protocol, "POST", "/predict")
    assert (response.status, parsed(response)) == (status, {"detail": detail})
    assert header(response, "retry-after") == ("3" if status == 503 else None)


async def test_wrong_method(protocol):
    refused = await call(protocol, "PUT", "/predict")
    assert (refused.status, header(refused, "allow")) == (405, "POST")
    assert parsed(refused)["detail"].endswith("Allowed: POST.")
    assert (await call(protocol, "POST", "/health")).status == 405


async def test_health(protocol, model):
    assert parsed(await call(protocol, "GET", "/health")) == {"status": "healthy", "model": "m"}
    assert (await call(protocol, "GET", "/health/m")).status == 200
    model.ready = False
    assert (await call(protocol, "GET", "/health")).status == 503


async def test_health_of_several():
    first, second = FakeModel("m"), FakeModel("n")
    protocol = NamedProtocol(registry(first, second))
    assert parsed(await call(protocol, "GET", "/health"))["models"] == ["m", "n"]
    second.ready = False
    assert (await call(protocol, "GET", "/health")).status == 503
    assert (await call(protocol, "GET", "/health/m")).status == 200


async def test_info(protocol):
    assert parsed(await call(protocol, "GET", "/info")) == {
        "name": "m",
        "version": "1.0",
        "format": "pytorch",
        "description": "tells things apart",
        "inputs": [
            {
                "name": "x",
                "type": "float32",
                "kind": "tensor",
                "shape": [-1, 4],
                "description": "four numbers",
            }
        ],
        "outputs": [{"name": "y", "type": "float32", "kind": "tensor", "shape": [-1], "description": ""}],
        "classes": ["a", "b"],
    }
