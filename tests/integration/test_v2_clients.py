"""V2 over REST and gRPC with other people's clients, on a real server."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from support.server import Server, free_port
from support.v2_store import make_v2_store

from predictor.oip import inference_pb2 as pb

SHARED = Path(__file__).parents[3] / "shared" / "data" / "torchserve"
IMAGE = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)


@pytest.fixture(scope="module")
def v2(tmp_path_factory):
    """A running server, with the port of its gRPC as `grpc_port`."""
    store = tmp_path_factory.mktemp("v2")
    make_v2_store(store)
    port = free_port()
    with Server(store, "--grpc-port", str(port), "--max-request-size", "8000000") as server:
        server.grpc_port = port
        yield server


def _rest(server, model, request, **options):
    async def call():
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=2))
        try:
            return await client.infer(f"http://127.0.0.1:{server.port}", request, model_name=model, **options)
        finally:
            await client.close()

    return asyncio.run(call())


def _grpc(server, call):
    async def with_client():
        client = InferenceGRPCClient(f"127.0.0.1:{server.grpc_port}", retries=2)
        try:
            return await call(client)
        finally:
            await client.close()

    return asyncio.run(with_client())


def _input(name, array, datatype, *, binary=True):
    item = InferInput(name, list(array.shape), datatype)
    item.set_data_from_numpy(array, binary_data=binary)
    return item


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("output", [True, False, None], ids=["binary output", "json output", "unsaid"])
def test_kserves_rest_client(v2, binary, output):
    image = IMAGE[:1, :, :50, :50].copy()
    wanted = None if output is None else [RequestedOutput("y", {"binary_data": output})]
    request = InferRequest(
        "echo", [_input("x", image, "FP32", binary=binary)], request_id="c-1", request_outputs=wanted
    )
    response = _rest(v2, "echo", request)
    assert (response.id, response.model_name) == ("c-1", "echo")  # the client drops the version
    np.testing.assert_array_equal(response.outputs[0].as_numpy(), image)


def test_kserves_rest_client_asks_and_is_refused(v2):
    async def ask():
        client = InferenceRESTClient(RESTConfig(protocol="v2", retries=2))
        url = f"http://127.0.0.1:{v2.port}"
        try:
            assert await client.is_server_live(url)
            assert await client.is_server_ready(url)
            assert await client.is_model_ready(url, "echo")
            with pytest.raises(httpx.HTTPStatusError) as refused:
                await client.infer(
                    url, InferRequest("nope", [_input("x", IMAGE[:1], "FP32")]), model_name="nope"
                )
            assert refused.value.response.status_code == 404
        finally:
            await client.close()

    asyncio.run(ask())


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_kserves_grpc_client(v2, raw):
    image = IMAGE if raw else IMAGE[:1, :, :20, :20].copy()
    request = InferRequest("echo", [_input("x", image, "FP32", binary=raw)], request_id="c-2")
    response = _grpc(v2, lambda client: client.infer(request))
    assert (response.id, response.model_name, response.model_version) == ("c-2", "echo", "1.0")
    np.testing.assert_array_equal(response.outputs[0].as_numpy(), image)


def test_kserves_grpc_client_asks(v2):
    async def ask(client):
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("echo")

    _grpc(v2, ask)


def test_bfloat16_over_rest_and_grpc(v2):
    bits = np.array([0x3F80, 0x7FC1, 0xFF80, 0x8000, 1], dtype="<u2").tobytes()
    entry = {"name": "x", "datatype": "BF16", "shape": [1, 5], "parameters": {"binary_data_size": 10}}
    head = json.dumps({"inputs": [entry]}).encode()
    response = v2.post(
        "/v2/models/echo_bf16/infer",
        head + bits,
        headers=[("Inference-Header-Content-Length", str(len(head)))],
    )
    length = int(response.header("inference-header-content-length"))
    assert response.header("content-type") == "application/octet-stream"
    assert json.loads(response.body[:length])["outputs"][0]["datatype"] == "BF16"
    assert response.body[length:] == bits


@pytest.mark.skipif(importlib.util.find_spec("tritonclient") is None, reason="needs tritonclient")
def test_nvidias_clients(v2):
    script = Path(__file__).parents[1] / "support" / "triton_client.py"
    command = [sys.executable, str(script), str(v2.port), str(v2.grpc_port)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert result.stdout == "ok\n", result.stderr


def test_one_model_the_same_answer_through_every_protocol(v2):
    png = (Path(__file__).parents[2] / "model_store" / "digits" / "examples" / "3.png").read_bytes()
    text = base64.b64encode(png).decode()
    expected = v2.send("PUT", "/predictions/digits", body=png).json()
    assert v2.post("/v1/models/digits:predict", {"instances": [{"b64": text}]}).json()["predictions"] == [
        expected
    ]
    entry = {"name": "any", "datatype": "BYTES", "shape": [1], "data": [text]}
    outputs = v2.post("/v2/models/digits/infer", {"inputs": [entry]}).json()["outputs"]
    answers = {item["name"]: item["data"] for item in outputs}
    for data in (png, text.encode()):
        request = InferRequest("digits", [_input("image", np.array([data], dtype=object), "BYTES")])
        response = _grpc(v2, lambda client, request=request: client.infer(request))
        over_grpc = {item.name: item.as_numpy().ravel().tolist() for item in response.outputs}
        assert over_grpc["label"] == [expected["label"].encode()]
        assert over_grpc["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    assert answers["label"] == [expected["label"]]
    assert answers["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


@pytest.mark.skipif(not SHARED.is_dir(), reason="TorchServe's sample requests are not here")
@pytest.mark.parametrize("name", ["mnist_v2_bytes", "mnist_v2_tensor"])
def test_torchserves_sample_requests(v2, name):
    body = (SHARED / "requests" / f"{name}.json").read_bytes()
    answer = v2.post("/v2/models/digits/infer", body, content_type="application/json").json()
    assert answer["id"] == json.loads(body)["id"]
    outputs = {item["name"]: item for item in answer["outputs"]}
    assert outputs["label"] == {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["0"]}


# metadata, readiness, versions


def test_metadata(v2):
    assert v2.get("/v2").json()["name"] == "predictor"
    assert v2.get("/v2/models").json() == {
        "models": ["batcher", "digits", "echo", "echo_bf16", "probe", "wine"]
    }
    metadata = v2.get("/v2/models/probe").json()
    assert metadata == {
        "name": "probe",
        "versions": ["1.0", "2.0"],
        "platform": "pytorch",
        "inputs": [],
        "outputs": [],
    }
    digits = v2.get("/v2/models/digits/versions/1.0").json()
    assert digits["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 28, 28]}]
    assert [item["name"] for item in digits["outputs"]] == ["label", "score", "probabilities"]
    assert v2.get("/v2/models/probe/versions/2.0/ready").json() == {"name": "probe", "ready": True}


def test_versions_are_served(v2):
    body = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
    for version in ("1.0", "2.0"):
        answer = v2.post(f"/v2/models/probe/versions/{version}/infer", body).json()
        assert answer["model_version"] == version
        assert json.loads(answer["outputs"][0]["data"][0])["version"] == version


def test_the_repository(v2):
    index = v2.post("/v2/repository/index", {}).json()
    assert {"name": "probe", "version": "2.0", "state": "READY", "reason": ""} in index
    assert v2.get("/v2/repository/index").json() == index
    for action in ("load", "unload"):
        response = v2.post(f"/v2/repository/models/echo/{action}", {})
        assert (response.status, list(response.json())) == (403, ["error"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/nope/ready", 404),
        ("GET", "/v2/models/probe/versions/9", 404),
        ("GET", "/v2/models/probe/versions/9/ready", 404),
        ("GET", "/v2/models/probe/nope", 404),
        ("GET", "/v2/models/probe/versions", 404),
        ("GET", "/v2/nope", 404),
        ("GET", "/v2/repository/nope", 404),
        ("POST", "/v2", 405),
        ("POST", "/v2/models", 405),
        ("POST", "/v2/models/probe", 405),
        ("POST", "/v2/models/probe/ready", 405),
        ("GET", "/v2/models/probe/infer", 405),
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/models/probe/versions/9/infer", 404),
        ("GET", "/v2/repository/models/probe/load", 405),
        ("POST", "/v2/repository/index", 400),
    ],
)
def test_paths_that_are_not_there(v2, method, path, status):
    response = v2.send(method, path, body=b"{" if method == "POST" else b"")
    assert response.status == status, response
    assert list(response.json()) == ["error"]
    assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff", b"{}", b'{"inputs": []}', b"[" * 100_000, b'{"inputs": [{"name": "x"}]}'],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_bodies_that_are_wrong(v2, body):
    for model in ("echo", "probe"):
        response = v2.post(f"/v2/models/{model}/infer", body, content_type="application/grpc")
        assert response.status == 400, response
        assert list(response.json()) == ["error"]


# gRPC alone


def _channel(server):
    return grpc.insecure_channel(
        f"127.0.0.1:{server.grpc_port}", options=[("grpc.max_send_message_length", -1)]
    )


def _raw_infer(server, body, **options):
    with _channel(server) as channel:
        return channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(body, timeout=60, **options)


def test_health_and_reflection(v2):
    with _channel(v2) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="nope"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "inference.GRPCInferenceService" in database.get_services()
        file = database.FindFileContainingSymbol("inference.GRPCInferenceService")
        assert {"ModelInferRequest", "InferTensorContents"} <= {message.name for message in file.message_type}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", grpc.StatusCode.NOT_FOUND),
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a\x04nope", grpc.StatusCode.NOT_FOUND),
        (b"\x0a\x05probe\x12\x019", grpc.StatusCode.NOT_FOUND),
        (b"\x0a\x02\xff\xfe", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a\x04echo", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a\x04echo\x2a\x05\x0a\x01x\x12\x00", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a\x04echo" + b"\x2a\x00" * 100_000, grpc.StatusCode.INVALID_ARGUMENT),
        (bytes(9_000_000), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_messages_that_are_wrong(v2, body, code):
    with pytest.raises(grpc.RpcError) as refused:
        _raw_infer(v2, body)
    assert refused.value.code() is code, refused.value
    assert v2.get("/v2/health/ready").status == 200


def test_control_and_unknown_methods_over_grpc(v2):
    with _channel(v2) as channel:
        for method, code in (
            ("RepositoryModelLoad", grpc.StatusCode.PERMISSION_DENIED),
            ("RepositoryModelUnload", grpc.StatusCode.PERMISSION_DENIED),
            ("Nope", grpc.StatusCode.UNIMPLEMENTED),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(b"\x0a\x04echo", timeout=60)
            assert refused.value.code() is code


def test_a_stream_of_requests(v2):
    """Triton's: every request is answered in order, and a bad one ends nothing."""
    good = (
        InferRequest("echo", [_input("x", IMAGE[:1], "FP32")], request_id="g").to_grpc().SerializeToString()
    )
    requests = [good, b"\xff\xff", b"\x0a\x04nope\x1a\x01n", b"\x0a\x04echo\x1a\x01e", good]
    with _channel(v2) as channel:
        method = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        first, broken, unknown, empty, last = method(iter(requests), timeout=60)
        assert list(method(iter([]), timeout=60)) == []
    for answer in (first, last):
        assert (answer.error_message, answer.infer_response.id) == ("", "g")
        assert answer.infer_response.raw_output_contents[0] == IMAGE[:1].tobytes()
    assert "not a ModelInferTarget" in broken.error_message
    assert ("Model not found: nope" in unknown.error_message, unknown.infer_response.id) == (True, "n")
    assert (empty.error_message, empty.infer_response.id) == ("'inputs' is empty", "e")


def test_the_ids_of_a_streams_requests_are_their_own(v2):
    item = {"name": "x", "datatype": "BYTES", "shape": [1]}
    message = pb.ModelInferRequest(model_name="probe", inputs=[item])
    message.inputs[0].contents.bytes_contents.append(b"a")
    with _channel(v2) as channel:
        method = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        answers = list(method(iter([message, message]), metadata=[("x-request-id", "mine")], timeout=60))
    reports = [json.loads(answer.infer_response.outputs[0].contents.bytes_contents[0]) for answer in answers]
    ids = {report["request_id"] for report in reports}
    assert len(ids) == 2
    assert all(name.startswith("mine.") for name in ids)
