"""Bytes that no gRPC client sends, and lengths and shapes that lie: the server lives, and stays small."""

from __future__ import annotations

import random
import struct

import grpc
import psutil
import pytest
from support import http2
from support.server import Server, free_port
from support.v2_store import make_echo, make_orders

from predictor.oip import inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
PREDICT = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
HUGE = 2**62


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    make_echo(store, "echo", "float32", 1)
    make_orders(store, "orders")
    port = free_port()
    with Server(store, "--grpc-port", str(port), "--max-request-size", "1000000") as running:
        running.grpc_port = port
        yield running


@pytest.fixture(autouse=True)
def lives(server):
    """Whatever a test sends, afterwards the same processes answer, and are as small as before."""
    everyone = [server.pid, *server.workers()]
    before = [psutil.Process(pid).memory_info().rss for pid in everyone]
    yield
    assert _echo(server, [1.5, 2.5]) == [1.5, 2.5]
    assert [server.pid, *server.workers()] == everyone
    after = [psutil.Process(pid).memory_info().rss for pid in everyone]
    assert all(now - then < 60_000_000 for then, now in zip(before, after, strict=True)), (before, after)


def _echo(server, values):
    request = pb.ModelInferRequest(model_name="echo")
    request.inputs.add(name="x", datatype="FP32", shape=[1, len(values)]).contents.fp32_contents.extend(
        values
    )
    answer = pb.ModelInferResponse.FromString(_send(server, request.SerializeToString()))
    return list(answer.outputs[0].contents.fp32_contents)


def _send(server, body, path=INFER):
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options=options) as channel:
        return channel.unary_unary(path)(body, timeout=60)


def _code(server, body, path=INFER):
    try:
        _send(server, body, path)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _request(model="echo", raw=(), **tensor):
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=list(raw))
    request.inputs.add(**{"name": "x", "datatype": "FP32", "shape": [1, 1], **tensor})
    return request


LIES = {
    "too few raw bytes": _request(raw=[bytes(3)]),
    "too many raw bytes": _request(raw=[bytes(5)]),
    "no raw bytes": _request(raw=[b""], shape=[1, 1]),
    "more raw contents than inputs": _request(raw=[bytes(4), bytes(4)]),
    "a negative axis": _request(raw=[bytes(4)], shape=[1, -1]),
    "all axes negative": _request(raw=[bytes(4)], shape=[-1, -1]),
    "a huge axis": _request(raw=[bytes(4)], shape=[1, HUGE]),
    "huge axes": _request(raw=[bytes(4)], shape=[HUGE, HUGE]),
    "huge axes and a zero": _request(raw=[b""], shape=[0, HUGE]),
    "a thousand axes": _request(raw=[bytes(4)], shape=[1] * 1000),
    "a datatype that is none": _request(raw=[bytes(4)], datatype="FP33"),
    "typed: none of a huge shape": _request(shape=[HUGE, 1]),
    "typed: a negative shape": _request(shape=[-1, 1]),
    "bytes: a length that lies": _request(
        "orders", [struct.pack("<I", 2**31) + b"ab"], datatype="BYTES", shape=[1]
    ),
    "bytes: a huge count": _request("orders", [struct.pack("<I", 0)], datatype="BYTES", shape=[HUGE]),
    "bytes: cut short": _request("orders", [b"\x01\x00"], datatype="BYTES", shape=[1]),
}


@pytest.mark.parametrize("request_", LIES.values(), ids=LIES)
def test_lengths_and_shapes_that_lie(server, request_):
    assert _code(server, request_.SerializeToString()) is grpc.StatusCode.INVALID_ARGUMENT


def test_messages_cut_and_changed_anywhere(server):
    """Every prefix of a good message, and 300 messages with a few bytes changed."""
    good = _request(raw=[bytes(4)]).SerializeToString()
    allowed = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
    chance = random.Random(5)
    changed = [good[:end] for end in range(len(good))]
    for _ in range(300):
        mutant = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        changed.append(bytes(mutant))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        for path in (INFER, PREDICT):
            call = channel.unary_unary(path)
            futures = [call.future(body, timeout=60) for body in changed]
            seen = {future.code() for future in futures}
            # TorchServe's service says INTERNAL where the model is unknown or not named.
            assert seen <= (allowed if path == INFER else {*allowed, grpc.StatusCode.INTERNAL}), path


_BODY = _request(raw=[bytes(4)]).SerializeToString()
_PREFIX = b"\x00" + struct.pack("!I", len(_BODY))
WIRES = {
    "no http/2": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "noise": random.Random(1).randbytes(5000),
    "noise after the preface": http2.PREFACE + random.Random(2).randbytes(5000),
    "a frame cut short": http2.call(INFER, _PREFIX + _BODY)[:-3],
    "a frame of a length that lies": http2.PREFACE
    + http2.frame(4, 0, 0)
    + b"\xff\xff\xff\x00\x01\x00\x00\x00\x01",
    "a message of a length that lies": http2.call(INFER, b"\x00\xff\xff\xff\xff" + _BODY),
    "a message longer than told": http2.call(INFER, b"\x00\x00\x00\x00\x01" + _BODY),
    "half a prefix": http2.call(INFER, b"\x00\x00"),
    "compressed, and it is not": http2.call(INFER, b"\x01" + _PREFIX[1:] + _BODY, grpc_encoding="gzip"),
    "compressed with what nobody knows": http2.call(
        INFER, b"\x01" + _PREFIX[1:] + _BODY, grpc_encoding="rot13"
    ),
    "another content type": http2.call(INFER, _PREFIX + _BODY, content_type="text/plain"),
    "a deadline that is none": http2.call(INFER, _PREFIX + _BODY, grpc_timeout="soon"),
    "a path that is none": http2.call("no/slash", _PREFIX + _BODY),
    "no end": http2.call(INFER, _PREFIX + _BODY[:3], end=False),
}


@pytest.mark.parametrize("data", WIRES.values(), ids=WIRES)
def test_connections_that_misbehave(server, data):
    for _ in range(5):
        http2.send(server.grpc_port, data, 0.3)


def test_a_good_call_by_hand_is_answered(server):
    """What the tests above send is read at all."""
    received = http2.send(server.grpc_port, http2.call(INFER, _PREFIX + _BODY))
    assert b"echo" in received


def test_messages_over_the_limit_one_after_the_other(server):
    for _ in range(20):
        assert _code(server, bytes(3_000_000)) is grpc.StatusCode.RESOURCE_EXHAUSTED
