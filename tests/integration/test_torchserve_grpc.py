"""TorchServe's gRPC inference API, with a client that owes nothing to our messages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading

import grpc
import psutil
import pytest
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from support.grpc_cases import CASES, RECORDING, Request, ask, make_grpc_store
from support.models import REPOSITORY, SAMPLES, link_sample
from support.processes import wait_until
from support.scrape import in_flight, left, wait_in_flight
from support.server import Server, free_port
from support.torchserve_stubs import INFERENCE, Stub

RECORDED = json.loads(RECORDING.read_text())
SERVICE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
V2 = ("inference.GRPCInferenceService", "org.pytorch.serve.grpc.openinference.GRPCInferenceService")

# What ours answers where docs/torchserve.md says that it is another answer.
_SUM = {"generated": False, "start": None, "end": None}
OURS = {
    "sequence": [{**_SUM, "total": 1}, {**_SUM, "total": 3}],
    "begun sequence": [{"total": 1, "generated": True, "start": "true", "end": None}],
    "sequence of an unknown model": RECORDED["sequence of an unknown model"][:1],
    "sequence of no model": RECORDED["sequence of no model"][:1],
    "stateless sequence": [
        {
            "types": {"data": "bytearray"},
            "values": {"data": "1"},
            "headers": {"data": {"content-type": ""}, "ts_request_sequence_id": "s5"},
        }
    ],
    "stream of one": [
        {
            "types": {"data": "bytearray"},
            "values": {"data": "x"},
            "headers": {"data": {"content-type": ""}},
        }
    ],
    "parts at once": ["abc"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    make_grpc_store(store)
    link_sample(store, "wine")
    port, other = free_port(), free_port()
    flags = ["--grpc-port", str(port), "--grpc-inference-port", str(other), "--max-request-size", "1000000"]
    with Server(store, *flags, "--log-format", "json") as running:
        running.grpc_port, running.grpc_inference_port = port, other
        yield running


@pytest.fixture
def channel(server):
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_inference_port}", options=options) as opened:
        yield opened


@pytest.fixture
def stub(channel):
    return Stub(channel, INFERENCE)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_as_torchserve_does(server, case):
    found, theirs = _parsed(ask(server.grpc_port, case)), _parsed(RECORDED[case.name])
    if case.differs:
        assert found == OURS[case.name] != theirs
    else:
        assert found == theirs


def _parsed(answers):
    """Parse objects: a message's map has no order, and with it the handler's report of it."""
    return [json.loads(item) if str(item).startswith("{\n") else item for item in answers]


def test_every_difference_stands_in_the_guide():
    guide = (REPOSITORY / "docs" / "torchserve.md").read_text()
    known = set(re.findall(r"^\| `([a-z0-9-]+)` \|", guide, re.MULTILINE))
    assert {case.differs for case in CASES if case.differs} <= known


_CLIENT = """
import sys
import grpc
from google.protobuf import descriptor_pool
from support.torchserve_stubs import INFERENCE, Stub, messages
made = messages(INFERENCE, descriptor_pool.Default())
import predictor.torchserve.protos.inference_pb2, predictor.protocols.grpc.services
with grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}") as channel:
    stub = Stub(channel, INFERENCE, made)
    request = made["PredictionsRequest"](model_name="remote", input={"order": sys.argv[2].encode()})
    print(stub.Predictions(request, timeout=60).prediction.decode())
"""


def test_a_client_with_torchserves_names_in_the_shared_pool(server):
    order = json.dumps({"do": "return", "value": "hello"})
    command = [sys.executable, "-c", _CLIENT, str(server.grpc_inference_port), order]
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert result.stdout == "hello\n", result.stderr


def test_signature_models_take_fields_and_documents(server, stub):
    text = (SAMPLES / "wine" / "examples" / "wine.json").read_text()
    expected = server.post("/predictions/wine", text.encode(), content_type="application/json").json()
    values = {key: str(value) for key, value in json.loads(text).items()}
    for fields in ((("data", text),), (("body", text),), tuple(values.items())):
        request = Request("wine", fields=fields).message(stub)
        assert json.loads(stub.Predictions(request, timeout=60).prediction) == expected
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predictions(Request("wine", fields=(("alcohol", "13"),)).message(stub), timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "malic_acid" in refused.value.details()


def test_v2_under_both_names_health_and_reflection_on_both_ports(server):
    for port in (server.grpc_port, server.grpc_inference_port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for service in V2:
                ready = channel.unary_unary(f"/{service}/ModelReady")
                assert ready(b"\x0a\x06remote", timeout=60) == b"\x08\x01"
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", SERVICE, *V2):
                assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60).status == 1
            database = ProtoReflectionDescriptorDatabase(channel)
            assert {SERVICE, *V2} <= set(database.get_services())
            found = database.FindFileContainingSymbol(SERVICE)
            assert "PredictionsRequest" in {message.name for message in found.message_type}
            assert database.FindFileContainingSymbol(V2[1]).package == V2[1].rpartition(".")[0]
            assert "google.rpc.Status" not in database.get_services()


def test_the_management_api_is_nowhere_unless_asked_for(server):
    for port in (server.grpc_port, server.grpc_inference_port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            path = "/org.pytorch.serve.grpc.management.ManagementAPIsService/ListModels"
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(b"", timeout=60)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", ["Predictions", "StreamPredictions"])
@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\x7f", b"\x0a\x02\xff\xfe"], ids=repr)
def test_messages_that_are_none(channel, method, body):
    kind = channel.unary_stream if method.startswith("Stream") else channel.unary_unary
    with pytest.raises(grpc.RpcError) as refused:
        list(kind(f"/{SERVICE}/{method}")(body, timeout=60))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, refused.value


def test_a_stream_goes_on_after_a_message_that_is_none(channel, stub):
    send = channel.stream_stream(
        f"/{SERVICE}/StreamPredictions2",
        response_deserializer=stub.types["PredictionResponse"].FromString,
    )
    good = Request(sequence="x", order={"do": "return", "value": "fine"}).message(stub).SerializeToString()
    answers = list(send(iter([b"\xff\xff", good]), timeout=60))
    assert answers[0].status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert answers[1].prediction == b"fine"


def test_parts_that_break_off(stub):
    order = {"do": "parts", "parts": ["a"], "pause": 0.3, "fail": True}
    call = stub.StreamPredictions(Request(order=order).message(stub), timeout=60)
    assert next(call).prediction == b"a"
    with pytest.raises(grpc.RpcError):
        next(call)
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert call.details() == "Prediction failed\norg.pytorch.serve.http.InternalServerException"


def test_sizes_are_limited_and_the_server_lives(server, stub):
    with pytest.raises(grpc.RpcError) as refused:
        stub.Predictions(Request(fields=(("data", "x" * 2_000_000),)).message(stub), timeout=60)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    answer = stub.Predictions(Request(fields=(("data", "x" * 900_000),)).message(stub), timeout=60)
    assert len(json.loads(answer.prediction)["values"]["data"]) == 900_000


def test_a_reader_gets_all_parts(stub):
    order = {"do": "parts", "parts": ["x"] * 60, "size": 200_000, "last": "end"}
    sizes = [len(part.prediction) for part in stub.StreamPredictions(Request(order=order).message(stub))]
    assert sizes == [200_000] * 60 + [3]


def test_who_does_not_read_is_cut_before_memory_fills(server, stub):
    """80 MB for a client that reads one part and then sleeps: more than may wait for it."""
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    order = {"do": "parts", "parts": ["x"] * 400, "size": 200_000, "last": "end"}
    lazy = stub.StreamPredictions(Request(order=order).message(stub), timeout=60)
    next(lazy)
    assert stub.Predictions(Request(order={"do": "return", "value": "on"}).message(stub), timeout=60)
    assert process.memory_info().rss - before < 60_000_000
    with pytest.raises(grpc.RpcError):
        list(lazy)
    assert "does not read" in lazy.details()


def test_who_cancels_a_stream_is_not_computed(server, stub, tmp_path):
    journal, release = tmp_path / "journal", tmp_path / "release"
    before = left(server.port, "remote")

    def noting(text):
        return Request(sequence="n", order={"do": "note", "path": str(journal), "text": text}).message(stub)

    slow = stub.Predictions.future(Request(order={"do": "wait", "path": str(release)}).message(stub))
    try:
        wait_in_flight(server.port, "remote", 1)
        expired = stub.StreamPredictions(noting("expired"), timeout=1)
        assert expired.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # The server reads in order: it has seen all of that call, or there is nothing to be seen.
        stub.Ping(Empty(), timeout=60)
        wait_until(
            lambda: left(server.port, "remote") > before or in_flight(server.port, "remote") == 1,
            60,
            "the expired one has left",
        )
        before, running = left(server.port, "remote"), in_flight(server.port, "remote")
        calls = [stub.StreamPredictions(noting("cancelled"))]
        calls.append(stub.StreamPredictions2(iter([noting("cancelled too")])))
        wait_in_flight(server.port, "remote", running + 2)
        for call in calls:
            call.cancel()
        wait_until(lambda: left(server.port, "remote") == before + 2, 60, "both have left")
    finally:
        release.touch()
    assert slow.result().prediction == b"waited"
    stub.Predictions(noting("last"), timeout=60)
    assert journal.read_text() == "last\n"


def test_streams_of_many_clients_at_once(server):
    """Each stream is one sequence, and sees its own sums."""
    found = {}

    def add_up(name):
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_inference_port}") as channel:
            stub = Stub(channel, INFERENCE)
            requests = [Request("stateful", fields=(("data", str(n)),), sequence=name) for n in range(1, 6)]
            last = Request(
                "stateful", fields=(("data", "10"), ("ts_request_sequence_end", "true")), sequence=name
            )
            messages = [request.message(stub) for request in [*requests, last]]
            answers = stub.StreamPredictions2(iter(messages), timeout=60)
            found[name] = [json.loads(answer.prediction)["total"] for answer in answers]

    # The places of the sequences before are free again once nothing of theirs is left to do.
    server.wait_ready()
    threads = [threading.Thread(target=add_up, args=(f"many-{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {f"many-{number}": [1, 3, 6, 10, 15, 25] for number in range(2)}


def test_calls_are_in_the_access_log(server, stub):
    stub.Ping(Empty(), timeout=60)
    stub.Predictions(
        Request(order={"do": "return", "value": 1}).message(stub), metadata=(("x-request-id", "log-1"),)
    )
    with pytest.raises(grpc.RpcError):
        stub.Predictions(Request("zz").message(stub), metadata=(("x-request-id", "log-2"),))
    server.wait_log("log-2")
    lines = {}
    for line in server.log().splitlines():
        if '"predictor.access"' in line:
            entry = json.loads(line)
            lines[entry["request_id"]] = entry
    path = f"/{SERVICE}/Predictions"
    good, bad = lines["log-1"], lines["log-2"]
    assert (good["method"], good["path"], good["status"], good["grpc_status"]) == ("GRPC", path, 200, "OK")
    assert (good["model"], good["client"]) == ("remote", "127.0.0.1")
    assert good["ms"] > 0
    assert (bad["status"], bad["grpc_status"]) == (500, "INTERNAL")
    assert bad["reason"].startswith("Model not found: zz")
    assert not any(entry["path"].endswith("/Ping") for entry in lines.values())
