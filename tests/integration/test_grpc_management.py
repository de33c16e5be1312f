"""TorchServe's gRPC management API, with a client that owes nothing to our messages."""

from __future__ import annotations

import contextlib
import json

import grpc
import pytest
from support.models import make_model
from support.server import Server, free_port
from support.torchserve_stubs import INFERENCE, MANAGEMENT, Stub

JAVA = "org.pytorch.serve."
MODEL = f"{JAVA}archive.model.Model"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    make_model(store, "probe")
    make_model(store, "other", "remote")
    make_model(store, "second", version="2.0", folder="other_v2")
    make_model(store, "bad", handler={"load_error": "no"})
    port = free_port()
    flags = ["--models", "probe", "--enable-model-api", "--grpc-management-port", str(port)]
    with Server(store, *flags) as running:
        running.grpc_port = port
        yield running


@contextlib.contextmanager
def _stub(port, package=MANAGEMENT):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Stub(channel, package)


@pytest.fixture
def ask(server):
    """Call a method by its name with fields; returns the text."""
    with _stub(server.grpc_port) as stub:

        def call(method, kind, **fields):
            return getattr(stub, method)(stub.types[f"{kind}Request"](**fields), timeout=60).msg

        yield call


def _refused(call, *arguments, **fields):
    with pytest.raises(grpc.RpcError) as refused:
        call(*arguments, **fields)
    return refused.value.code(), refused.value.details()


def test_a_model_comes_and_goes(server, ask):
    text = ask("RegisterModel", "RegisterModel", url="other", initial_workers=1, synchronous=True)
    assert text == 'Model "other" Version: 1.0 registered with 1 initial workers'
    listed = json.loads(ask("ListModels", "ListModels", limit=10))
    assert [model["modelName"] for model in listed["models"]] == ["other", "probe"]
    (described,) = json.loads(ask("DescribeModel", "DescribeModel", model_name="other"))
    assert (described["modelVersion"], described["minWorkers"], described["batchSize"]) == ("1.0", 1, 1)
    code, details = _refused(ask, "RegisterModel", "RegisterModel", url="other", synchronous=True)
    assert code is grpc.StatusCode.ABORTED
    assert details.startswith("Model version 1.0 is already registered for model other\n")
    assert (
        ask("ScaleWorker", "ScaleWorker", model_name="other", min_worker=2, synchronous=True)
        == "Workers scaled to 2 for model: other"
    )
    assert ask("ScaleWorker", "ScaleWorker", model_name="other") == "Processing worker updates..."
    assert (
        ask("SetDefault", "SetDefault", model_name="other", model_version="1.0")
        == 'Default version successfully updated for model "other" to "1.0"'
    )
    assert ask("UnregisterModel", "UnregisterModel", model_name="other") == 'Model "other" unregistered'
    assert server.get("/v2/models/other").status == 404


@pytest.mark.parametrize(
    ("method", "fields", "code", "details"),
    [
        (
            "RegisterModel",
            {},
            "INVALID_ARGUMENT",
            f"Parameter url is required.\n{JAVA}http.BadRequestException",
        ),
        (
            "RegisterModel",
            {"url": "zz.mar"},
            "NOT_FOUND",
            f"Model not found at: zz.mar\n{JAVA}archive.model.ModelNotFoundException",
        ),
        (
            "RegisterModel",
            {"url": "bad", "initial_workers": 1, "synchronous": True},
            "INTERNAL",
            f"Failed to start workers for model bad version: 1.0\n{JAVA}http.InternalServerException",
        ),
        (
            "DescribeModel",
            {"model_name": "zz"},
            "NOT_FOUND",
            f"Model not found: zz\n{JAVA}archive.model.ModelNotFoundException",
        ),
        (
            "ScaleWorker",
            {"model_name": "zz"},
            "NOT_FOUND",
            f"Model not found: zz\n{JAVA}archive.model.ModelNotFoundException",
        ),
        (
            "SetDefault",
            {"model_name": "probe", "model_version": "7"},
            "NOT_FOUND",
            f"Model version 7 does not exist for model probe\n{MODEL}VersionNotFoundException",
        ),
        (
            "UnregisterModel",
            {"model_name": "zz"},
            "NOT_FOUND",
            f"Model not found: zz\n{JAVA}archive.model.ModelNotFoundException",
        ),
        (
            "UnregisterModel",
            {},
            "INVALID_ARGUMENT",
            f"Parameter url is required.\n{JAVA}http.BadRequestException",
        ),
    ],
    ids=str,
)
def test_refusals_as_torchserve_has_them(ask, method, fields, code, details):
    assert _refused(ask, method, method, **fields) == (grpc.StatusCode[code], details)


def test_lists_as_torchserve_has_them(ask):
    assert ask("ListModels", "ListModels") == '{\n  "nextPageToken": "0",\n  "models": []\n}'
    assert json.loads(ask("ListModels", "ListModels", limit=1, next_page_token=9)) == {"models": []}


def test_bytes_that_are_no_message(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        path = f"/{MANAGEMENT}.ManagementAPIsService/RegisterModel"
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(path)(b"\xff\xff", timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_inference_api_is_not_on_the_management_port(server):
    with _stub(server.grpc_port, INFERENCE) as stub, pytest.raises(grpc.RpcError) as refused:
        stub.Predictions(stub.types["PredictionsRequest"](model_name="probe"), timeout=60)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_set_of_models_is_fixed_unless_allowed(tmp_path):
    make_model(tmp_path, "probe")
    port = free_port()
    with Server(tmp_path, "--grpc-management-port", str(port)), _stub(port) as stub:
        assert "probe" in stub.ListModels(stub.types["ListModelsRequest"](limit=5), timeout=60).msg
        for method, fields in (
            ("RegisterModel", {"url": "probe"}),
            ("UnregisterModel", {"model_name": "probe"}),
            ("UnregisterModel", {}),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                getattr(stub, method)(stub.types[f"{method}Request"](**fields), timeout=60)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert refused.value.details() == f"Model API disabled\n{JAVA}archive.model.ModelException"
