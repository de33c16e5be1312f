"""The gRPC server's statuses, limits, TLS and end, on servers of their own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
import uuid

import grpc
import pytest
from support.models import read_journal
from support.processes import wait_until
from support.scrape import accepted, in_flight, left, wait_in_flight
from support.server import Server, free_port
from support.v2_store import make_echo, make_orders

from predictor.oip import inference_pb2 as pb

_INFER = "/inference.GRPCInferenceService/ModelInfer"


def _order(model, *, count=1, **order):
    """A request whose only element is an order for the handler `orders`."""
    message = pb.ModelInferRequest(model_name=model)
    item = message.inputs.add(name="x", datatype="BYTES", shape=[count])
    item.contents.bytes_contents.extend([json.dumps(order).encode()] * count)
    return message.SerializeToString()


def _output(answer):
    return json.loads(pb.ModelInferResponse.FromString(answer).outputs[0].contents.bytes_contents[0])


@contextlib.contextmanager
def _running(store, *flags, wait=True, **environment):
    port = free_port()
    with Server(store, "--grpc-port", str(port), *flags, environment=environment, wait=wait) as server:
        server.grpc_port = port
        yield server


@contextlib.contextmanager
def _method(server, path=_INFER, credentials=None):
    address = f"localhost:{server.grpc_port}"
    channel = grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    with channel:
        yield channel.unary_unary(path)


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    return tmp_path_factory.mktemp("journal") / "rows"


@pytest.fixture(scope="module")
def server(tmp_path_factory, journal):
    store = tmp_path_factory.mktemp("store")
    make_orders(store, "orders", jobQueueSize=2, handler={"journal": str(journal)})
    make_orders(store, "late", clientTimeoutInMills=300)
    make_echo(store, "echo", "float32", 1)
    with _running(store, "--max-response-size", "1000000") as running:
        yield running


@contextlib.contextmanager
def _held(server, journal):
    """Keep the worker of `orders` busy until the block ends."""
    release = journal.with_name(f"{uuid.uuid4()}")
    order = {"cmd": "wait", "for": str(release), "tag": release.name}
    with _method(server) as infer:
        call = infer.future(_order("orders", **order), timeout=100)
        try:
            wait_until(
                lambda: release.name in {row["tag"] for row in read_journal(journal)}, 60, "it is computed"
            )
            yield
        finally:
            release.touch()
            assert call.exception() is None


@pytest.mark.parametrize(
    ("order", "code", "text"),
    [
        ({"cmd": "raise"}, grpc.StatusCode.INTERNAL, "model 'orders' failed: ValueError"),
        ({"cmd": "memory_error"}, grpc.StatusCode.RESOURCE_EXHAUSTED, "out of memory"),
        (
            {"cmd": "prediction_exception", "message": "bad row", "code": 422},
            grpc.StatusCode.INVALID_ARGUMENT,
            "bad row",
        ),
        ({"cmd": "prediction_exception", "message": "gone", "code": 404}, grpc.StatusCode.NOT_FOUND, "gone"),
        ({"cmd": "status", "code": 503, "phrase": "Busy"}, grpc.StatusCode.UNAVAILABLE, "Busy"),
        ({"cmd": "big", "n": 2_000_000}, grpc.StatusCode.RESOURCE_EXHAUSTED, "max_response_size"),
        ({"cmd": "exit"}, grpc.StatusCode.INTERNAL, "the worker of model 'orders' died"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_statuses(server, order, code, text):
    with _method(server) as infer, pytest.raises(grpc.RpcError) as failed:
        infer(_order("orders", **order), timeout=60)
    assert failed.value.code() is code, failed.value
    assert text in failed.value.details()
    assert "secret" not in failed.value.details()
    server.wait_ready()


def test_headers_of_a_handler_become_metadata(server):
    order = _order(
        "orders", cmd="header", headers=[["X-Trace", "abc"], ["grpc-status", "9"], ["bad key", "1"]]
    )
    with _method(server) as infer:
        call = infer.with_call(order, timeout=60, metadata=(("x-request-id", "r-9"),))
    metadata = dict(call[1].initial_metadata())
    assert metadata["x-trace"] == "abc"
    assert "bad key" not in metadata
    assert pb.ModelInferResponse.FromString(call[0]).id == "r-9"


def test_a_full_queue(server, journal):
    waiting = []
    with _method(server) as infer:
        with _held(server, journal):
            for number in range(3):
                waiting.append(infer.future(_order("orders", cmd="tag", tag=number), timeout=100))
                wait_in_flight(server.port, "orders", 2 + number)
            with pytest.raises(grpc.RpcError) as refused:
                infer(_order("orders", cmd="tag", tag="refused"), timeout=60)
        assert [_output(call.result())["tag"] for call in waiting] == [0, 1, 2]
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(refused.value.trailing_metadata())["retry-after"].isdigit()


def test_a_request_that_waited_too_long(server):
    with _method(server) as infer:
        calls = [infer.future(_order("late", cmd="sleep", s=1), timeout=90) for _ in range(4)]
        codes = [call.exception().code() if call.exception() else None for call in calls]
    assert grpc.StatusCode.DEADLINE_EXCEEDED in codes


def test_who_cancels_or_runs_out_of_time_is_not_computed(server, journal):
    before = left(server.port, "orders")
    with grpc.insecure_channel(f"localhost:{server.grpc_port}") as channel:
        infer = channel.unary_unary(_INFER)
        with _held(server, journal):
            expired = infer.future(_order("orders", cmd="tag", tag="expired"), timeout=1)
            assert expired.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
            # The server reads in order: it has seen all of that call, or there is nothing to be seen.
            channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=60)
            wait_until(
                lambda: left(server.port, "orders") > before or in_flight(server.port, "orders") == 1,
                60,
                "the expired one has left",
            )
            before, running = left(server.port, "orders"), in_flight(server.port, "orders")
            cancelled = infer.future(_order("orders", cmd="tag", tag="cancelled"), timeout=100)
            wait_in_flight(server.port, "orders", running + 1)
            cancelled.cancel()
            wait_until(lambda: left(server.port, "orders") == before + 1, 60, "the other has left")
        infer(_order("orders", cmd="tag", tag="last"), timeout=60)
    tags = {row["tag"] for row in read_journal(journal)}
    assert "last" in tags
    assert not tags & {"cancelled", "expired"}


def test_a_signal_lets_accepted_requests_finish(tmp_path):
    make_orders(tmp_path, "orders")
    with _running(tmp_path, "--grace-period", "60") as server, _method(server) as infer:
        calls = [
            infer.future(_order("orders", cmd="sleep", s=0.5, tag=number), timeout=90) for number in range(3)
        ]
        wait_until(lambda: accepted(server.port, "orders") == 3, 60, "all of them are accepted")
        watching = grpc.insecure_channel(f"localhost:{server.grpc_port}").unary_stream(
            "/grpc.health.v1.Health/Watch"
        )
        seen = threading.Thread(target=lambda: list(_until_broken(watching(b""))), daemon=True)
        seen.start()
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert [_output(call.result())["tag"] for call in calls] == [0, 1, 2]
        assert server.wait_exit() == 0
        assert time.monotonic() - started < 50
        with pytest.raises(grpc.RpcError) as refused:
            infer(_order("orders", cmd="tag", tag=9), timeout=60)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def _until_broken(stream):
    with contextlib.suppress(grpc.RpcError):
        yield from stream


def test_off_taken_and_unusable(tmp_path):
    make_echo(tmp_path, "echo", "float32", 1)
    with Server(tmp_path, "--grpc-port", "0") as off:
        assert "gRPC" not in off.log()
    with _running(tmp_path) as first:
        taken = Server(tmp_path, "--grpc-port", str(first.grpc_port), wait=False)
        with taken:
            assert taken.wait_exit() == 1
            assert "cannot listen for gRPC" in taken.log()
    key = ["--tls-key-file", str(tmp_path / "key.pem")]
    half = Server(tmp_path, "--grpc-port", str(free_port()), "--grpc-tls", *key, wait=False)
    with half:
        assert half.wait_exit() == 1
        assert "tls_certificate_file" in half.log()


def test_tls_and_client_certificates(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    options = f"-newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate} -subj /CN=localhost".split()
    command = ["openssl", "req", "-x509", *options, "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    store = tmp_path / "store"
    store.mkdir()
    make_echo(store, "echo", "float32", 1)
    message = pb.ModelInferRequest(model_name="echo", raw_input_contents=[bytes(4)])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    body = message.SerializeToString()
    files = ["--tls-certificate-file", str(certificate), "--tls-key-file", str(key), "--grpc-tls"]
    anyone = grpc.ssl_channel_credentials(certificate.read_bytes())
    known = grpc.ssl_channel_credentials(certificate.read_bytes(), key.read_bytes(), certificate.read_bytes())
    with _running(store, *files) as server:
        with _method(server, credentials=anyone) as infer:
            assert infer(body, timeout=60)
        with _method(server) as plain, pytest.raises(grpc.RpcError):
            plain(body, timeout=5)
    with _running(store, *files, "--tls-client-ca-file", str(certificate)) as server:
        with _method(server, credentials=known) as infer:
            assert infer(body, timeout=60)
        with _method(server, credentials=anyone) as infer, pytest.raises(grpc.RpcError):
            infer(body, timeout=5)
