"""Explanations over V2's gRPC: what the route for them answers over REST."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest
from support.models import SAMPLES, link_sample
from support.server import Server, free_port

from predictor.oip import inference_pb2 as pb

WINE = json.loads((SAMPLES / "wine" / "examples" / "wine.json").read_text())
INPUTS = [{"name": name, "datatype": "FP32", "shape": [1], "data": [value]} for name, value in WINE.items()]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    if not link_sample(store, "wine"):
        pytest.skip("no trained weights for wine")
    port = free_port()
    with Server(store, "--grpc-port", str(port)) as running:
        running.grpc_port = port
        yield running


def _infer(server, parameters, outputs=()):
    request = pb.ModelInferRequest(model_name="wine")
    for item in INPUTS:
        tensor = request.inputs.add(name=item["name"], datatype="FP32", shape=[1])
        tensor.contents.fp32_contents.extend(item["data"])
    for key, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[
            type(value)
        ]
        setattr(request.parameters[key], kind, value)
    for name in outputs:
        request.outputs.add(name=name)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = pb.ModelInferResponse.FromString(call(request.SerializeToString(), timeout=60))
    return {
        item.name: list(
            item.contents.fp32_contents or item.contents.int64_contents or item.contents.bytes_contents
        )
        for item in answer.outputs
    }


def _rest(server, path, parameters):
    answer = server.post(path, {"inputs": INPUTS, "parameters": parameters}).json()
    return {item["name"]: item["data"] for item in answer["outputs"]}


@pytest.mark.parametrize(
    ("parameters", "over_rest"),
    [
        ({"explain": True}, {}),
        ({"explain": True, "method": "saliency", "target": 2}, {"method": "saliency", "target": 2}),
        ({"explain": True, "n_steps": 20}, {"n_steps": 20}),
        (
            {"explain": '{"method": "shapley_exact", "baseline": "zero"}'},
            {"explain": '{"method": "shapley_exact", "baseline": "zero"}'},
        ),
        (
            {"explain": '{"method": "saliency"}', "target": 1},
            {"explain": '{"method": "saliency"}', "target": 1},
        ),
    ],
    ids=str,
)
def test_the_same_as_over_rest(server, parameters, over_rest):
    found = _infer(server, parameters)
    expected = _rest(server, "/v2/models/wine/explain", over_rest)
    assert set(found) == set(expected)
    assert any(name.startswith("attributions.") for name in found)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_outputs_are_chosen(server):
    assert set(_infer(server, {"explain": True}, ["target", "attributions.alcohol"])) == {
        "target",
        "attributions.alcohol",
    }


@pytest.mark.parametrize("parameters", [{}, {"explain": False}], ids=str)
def test_a_prediction_unless_asked(server, parameters):
    found = _infer(server, parameters)
    assert not any(name.startswith("attributions.") for name in found)
    assert found["label"][0].decode() == _rest(server, "/v2/models/wine/infer", {})["label"][0]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"explain": True, "method": "magic"}, "magic"),
        ({"explain": True, "colour": 1}, "colour"),
        ({"explain": "{"}, "explain"),
        ({"explain": 1}, "explain"),
        ({"explain": True, "target": 99}, "target"),
    ],
    ids=str,
)
def test_wishes_that_cannot_be_met(server, parameters, text):
    with pytest.raises(grpc.RpcError) as refused:
        _infer(server, parameters)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert text in refused.value.details()
