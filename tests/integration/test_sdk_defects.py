"""What KServe's SDK gets wrong, row by row: each test shows that the SDK has the defect, and we have not.

A test that fails on its first half says that the SDK has been mended, and that we may have less to do.
"""

from __future__ import annotations

import inspect
import json
import struct
import uuid

import grpc
import pytest
from kserve import InferRequest
from kserve.errors import InvalidInput
from kserve.protocol.grpc import server as sdk_grpc
from support import direct

from predictor.oip import inference_pb2 as pb
from predictor.settings import Settings

ROWS = {"instances": [[1, 2]]}
SECRETS = [("Authorization", "Bearer s3cret"), ("Cookie", "session=s3cret")]
TENSOR = {"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}]}


def _grpc(server, method, message, answer):
    """Return the answer of a method of `inference.GRPCInferenceService`, or the status it fails with."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return call(message, timeout=60)
        except grpc.RpcError as error:
            return error.code()


def _infer(server, model, values=(1.0, 2.0), parameters=None):
    """Send FP32 numbers as a message that knows every field, whatever the SDK's own definition has."""
    message = pb.ModelInferRequest(model_name=model, id="g-1")
    item = message.inputs.add(name="x", datatype="FP32", shape=[1, len(values)])
    item.contents.fp32_contents.extend(values)
    for name, value in (parameters or {}).items():
        message.parameters[name].double_param = value
    return _grpc(server, "ModelInfer", message, pb.ModelInferResponse)


# :explain


def test_explain_echoes_no_headers_of_the_request(sdk, like_sdk):
    leaking = sdk.post("/v1/models/echo:explain", ROWS, headers=SECRETS)
    assert leaking.header("authorization") == "Bearer s3cret"
    answer = like_sdk.post("/v1/models/echo:explain", ROWS, headers=SECRETS)
    assert answer.status == 200
    assert b"s3cret" not in repr(answer).encode()


def test_an_explanation_may_be_a_list(sdk, like_sdk):
    assert sdk.post("/v1/models/list:explain", ROWS).status == 500
    assert like_sdk.post("/v1/models/list:explain", ROWS).json() == {"explanations": [[1, 2, 3]]}


def test_a_picture_says_that_it_is_one(sdk, like_sdk):
    mislabelled = sdk.post("/v1/models/picture:explain", ROWS)
    assert (mislabelled.body[:4], mislabelled.header("content-type")) == (b"\x89PNG", "application/json")
    wine = {"instances": [direct.wine_example()]}
    picture = like_sdk.post("/v1/models/wine:explain", wine, headers=[("Accept", "image/svg+xml")])
    assert (picture.body[:4], picture.header("content-type")) == (b"<svg", "image/svg+xml; charset=utf-8")


# V1's content type


def test_json_may_have_a_charset(sdk, like_sdk):
    options = {"content_type": "application/json; charset=utf-8"}
    body = json.dumps(ROWS).encode()
    assert sdk.post("/v1/models/echo:predict", body, **options).json() == {"predictions": ["23 raw bytes"]}
    assert like_sdk.post("/v1/models/echo:predict", body, **options).json() == {"predictions": [[1, 2]]}


def test_json_may_have_no_content_type_as_kserves_batcher_sends_it(sdk, like_sdk):
    for server in (sdk, like_sdk):
        answer = server.post("/v1/models/echo:predict", json.dumps(ROWS).encode())
        assert answer.json() == {"predictions": [[1, 2]]}


# V2's versions


@pytest.mark.parametrize(
    ("method", "action"),
    [("GET", ""), ("GET", "/ready"), ("POST", "/infer")],
    ids=["metadata", "ready", "infer"],
)
def test_versions_are_served(sdk, like_sdk, method, action):
    body = json.dumps({"id": "1", **TENSOR}).encode() if method == "POST" else b""
    for server, status in ((sdk, 501), (like_sdk, 200)):
        path = f"/v2/models/echo/versions/1.0{action}"
        answer = server.send(method, path, body=body, content_type="application/json" if body else "")
        assert answer.status == status, answer


# V2's readiness


def test_ready_means_that_every_model_is(sdk, like_sdk):
    for server in (sdk, like_sdk):
        assert server.get("/v2/models/sleeping/ready").status == 503
    assert (sdk.get("/v2/health/ready").status, sdk.get("/v2/health/ready").json()) == (200, {"ready": True})
    answer = like_sdk.get("/v2/health/ready")
    assert (answer.status, answer.json()) == (503, {"ready": False})


# V2's errors


def test_a_wrong_body_is_400_with_an_error_in_words(sdk, like_sdk):
    wrong = {"inputs": 3}
    theirs = sdk.post("/v2/models/echo/infer", wrong)
    assert (theirs.status, type(theirs.json()["detail"])) == (422, list)
    mine = like_sdk.post("/v2/models/echo/infer", wrong)
    assert (mine.status, list(mine.json())) == (400, ["error"])
    assert "inputs" in mine.json()["error"]


def test_a_wrong_length_of_the_header_is_400(sdk, like_sdk):
    options = {"headers": [("Inference-Header-Content-Length", "x")]}
    assert sdk.post("/v2/models/echo/infer", b"{}", **options).status == 500
    answer = like_sdk.post("/v2/models/echo/infer", b"{}", **options)
    assert answer.status == 400
    assert "inference-header-content-length" in answer.json()["error"]


def test_a_binary_tensor_that_is_cut_short_is_refused(sdk, like_sdk):
    """It promises 16 bytes and brings 8."""
    entry = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    head = json.dumps({"id": "1", "inputs": [entry]}).encode()
    options = {"headers": [("Inference-Header-Content-Length", str(len(head)))]}
    short = head + struct.pack("<2f", 1, 2)
    theirs = sdk.post("/v2/models/count/infer", short, **options)
    assert theirs.json()["outputs"][0]["data"] == [2]
    mine = like_sdk.post("/v2/models/float32/infer", short, **options)
    assert mine.status == 400
    assert "'x'" in mine.json()["error"]


# V2's answers


def test_fields_without_a_value_are_left_out(sdk, like_sdk):
    named = {"id": "1", **TENSOR}
    theirs = sdk.post("/v2/models/echo/infer", named).json()
    assert {name for name, value in theirs.items() if value is None} == {"model_version", "parameters"}
    assert theirs["outputs"][0]["parameters"] is None
    mine = like_sdk.post("/v2/models/echo/infer", named)
    assert mine.status == 200
    assert b"null" not in mine.body
    assert mine.json()["model_version"] == "1.0"
    assert sdk.get("/v2/models/echo").json()["versions"] is None
    assert like_sdk.get("/v2/models/echo").json()["versions"] == ["1.0"]


def test_a_request_needs_no_id(sdk, like_sdk):
    assert sdk.post("/v2/models/echo/infer", TENSOR).status == 500
    answer = like_sdk.post("/v2/models/echo/infer", TENSOR)
    assert answer.status == 200
    assert answer.json()["id"]


# V2's repository


def test_models_are_not_loaded_for_anybody_who_asks(sdk, like_sdk):
    assert sdk.post("/v2/repository/models/echo/load").json() == {"name": "echo", "load": True}
    for action in ("load", "unload"):
        assert like_sdk.post(f"/v2/repository/models/echo/{action}").status == 403
    assert like_sdk.get("/v2/models/echo/ready").status == 200


def test_the_repository_has_an_index(sdk, like_sdk):
    assert sdk.post("/v2/repository/index", {}).status == 404
    index = {item["name"]: item["state"] for item in like_sdk.post("/v2/repository/index", {}).json()}
    assert (index["echo"], index["sleeping"]) == ("READY", "UNAVAILABLE")


# gRPC


def test_a_model_that_is_not_ready_is_unavailable_over_grpc(sdk, like_sdk):
    assert not isinstance(_infer(sdk, "sleeping"), grpc.StatusCode)  # it answers all the same
    assert _infer(like_sdk, "sleeping") is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "ModelInfer"])
def test_a_failure_over_grpc_has_a_status_that_says_something(sdk, like_sdk, method):
    if method == "ModelInfer":
        theirs, mine = _infer(sdk, "unwritten"), _infer(like_sdk, "unwritten")
    else:
        message = pb.RepositoryModelLoadRequest(model_name="sleeping")
        theirs, mine = (
            _grpc(server, method, message, pb.RepositoryModelLoadResponse) for server in (sdk, like_sdk)
        )
    assert theirs is grpc.StatusCode.UNKNOWN
    assert mine in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)


def test_parameters_may_be_floats_over_grpc(sdk, like_sdk):
    with pytest.raises(InvalidInput, match="parameter"):
        InferRequest("echo", [], parameters={"temperature": 0.5}).to_grpc()
    answer = _infer(like_sdk, "float32", parameters={"temperature": 0.5})
    assert list(answer.outputs[0].contents.fp32_contents) == [1, 2]


def test_loading_a_model_again_is_refused_in_words_over_grpc(sdk, like_sdk):
    message = pb.RepositoryModelLoadRequest(model_name="echo")
    answer = pb.RepositoryModelLoadResponse
    assert _grpc(sdk, "RepositoryModelLoad", message, answer) is grpc.StatusCode.INTERNAL
    assert _grpc(like_sdk, "RepositoryModelLoad", message, answer) is grpc.StatusCode.PERMISSION_DENIED


def test_grpc_may_be_encrypted():
    """That ours is, when it is configured, tests/integration/test_grpc_life.py shows on another server."""
    source = inspect.getsource(sdk_grpc)
    assert "add_insecure_port" in source
    assert "add_secure_port" not in source
    assert {"grpc_tls", "tls_certificate_file"} <= set(Settings.model_fields)


# the size of a body


def test_a_body_has_a_limit(sdk, like_sdk):
    body = json.dumps({"instances": ["x" * 9_000_000]}).encode()
    assert sdk.post("/v1/models/echo:predict", body).status == 200
    assert like_sdk.post("/v1/models/echo:predict", body).status == 413


# logs


def _logged(server, path, body):
    """Send a request and return the lines of the log that it causes, which stand between two marks."""
    marks = [f"/mark-{uuid.uuid4()}" for _ in range(2)]
    server.get(marks[0])
    server.post(path, body)
    server.get(marks[1])
    server.wait_log(marks[1])
    log = server.log()
    first, last = (log.index(mark) for mark in marks)
    # The model that is never ready says so when it likes.
    return [line for line in log[first:last].splitlines()[1:-1] if "sleeping" not in line]


def test_a_request_is_one_line_of_the_log(sdk, like_sdk):
    path = "/v1/models/echo:predict"
    assert len(_logged(sdk, path, ROWS)) > 1
    (line,) = _logged(like_sdk, path, ROWS)
    assert path in line


def test_a_clients_mistake_is_one_line_without_a_traceback(sdk, like_sdk):
    path = "/v1/models/echo:predict"
    assert "Traceback" in "\n".join(_logged(sdk, path, b"{"))
    (line,) = _logged(like_sdk, path, b"{")
    assert path in line
    assert "Invalid JSON" in line


# metrics


def _families(server):
    """Return the kind of each family of metrics that is about requests, not about the process."""
    lines = server.get("/metrics").body.decode().splitlines()
    kinds = dict(line.split()[2:4] for line in lines if line.startswith("# TYPE"))
    return {name: kind for name, kind in kinds.items() if not name.startswith(("python_", "process_"))}


def test_requests_are_counted_and_queues_are_told(sdk, like_sdk):
    for server in (sdk, like_sdk):
        server.post("/v1/models/echo:predict", ROWS)
        server.post("/v1/models/nope:predict", ROWS)
    theirs = {name for name, kind in _families(sdk).items() if kind in ("counter", "gauge")}
    assert not {name for name in theirs if not name.endswith("_created")}
    mine = _families(like_sdk)
    assert mine["predictor_requests_total"] == "counter"
    assert any("queue" in name and kind == "gauge" for name, kind in mine.items())
