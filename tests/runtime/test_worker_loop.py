"""The worker's loop over a real socket, with a service that needs no model."""

from __future__ import annotations

import socket

import orjson
import pytest
from runtime_fakes import make_service, request

from predictor.ipc.frames import FrameDecoder, encode_frame
from predictor.ipc.messages import (
    Batch,
    Cancel,
    Chunk,
    Envelope,
    FromWorker,
    InferenceRequest,
    Results,
    Stop,
    Verb,
)
from predictor.runtime.channel import Channel
from predictor.runtime.cloudevents import STRUCTURED_TYPE
from predictor.runtime.worker import Worker


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def _talk(ends, service, *messages, continuous=False):
    """Say everything at once, the last of it `Stop`; returns what the worker answered."""
    ours, theirs = ends
    for message in messages:
        ours.sendall(encode_frame(message))
    worker = Worker(Channel(theirs), service, continuous)
    worker.run()
    theirs.shutdown(socket.SHUT_WR)
    received, decoder = [], FrameDecoder(FromWorker)
    while data := ours.recv(1 << 20):
        received += decoder.feed(data)
    return received


def _batch(number, *texts):
    return Batch(number, [request(text, content_type="text/plain", request_id=text) for text in texts])


@pytest.fixture
def echo():
    calls = []

    def handle(data, context):
        bodies = [row["body"] for row in data]
        calls.append(bodies)
        return bodies

    made = make_service(handle)
    made.calls = calls
    return made


def _answers(message):
    return [result and result.body for result in message.results]


def test_batches_are_answered_in_order(ends, echo):
    first, second = _talk(ends, echo, _batch(1, "a", "b"), _batch(2, "c"), Stop())
    assert (first.batch_id, _answers(first)) == (1, [b"a", b"b"])
    assert (second.batch_id, _answers(second)) == (2, [b"c"])


def test_what_was_cancelled_before_it_began_is_skipped(ends, echo):
    messages = _batch(1, "a"), _batch(2, "b", "c"), Cancel(2, [0]), Cancel(1, [0]), Stop()
    first, second = _talk(ends, echo, *messages)
    assert _answers(first) == [None]
    assert _answers(second) == [None, b"c"]
    assert echo.calls == [["c"]]


def test_a_cancellation_that_comes_too_late_changes_nothing(ends, echo):
    messages = _talk(ends, echo, Cancel(0, [0]), _batch(1, "a"), Stop())
    assert _answers(messages[0]) == [b"a"]


def test_stop_lets_everything_finish(ends, echo):
    assert len(_talk(ends, echo, _batch(1, "a"), _batch(2, "b"), _batch(3, "c"), Stop())) == 3


def test_a_front_end_that_goes_away_ends_the_worker(ends, echo):
    ours, theirs = ends
    ours.sendall(encode_frame(_batch(1, "a")))
    ours.shutdown(socket.SHUT_WR)
    Worker(Channel(theirs), echo).run()


def test_an_answer_to_nobody_ends_the_worker_quietly(ends, echo):
    ours, theirs = ends
    ours.sendall(encode_frame(_batch(1, "a")))
    ours.close()
    Worker(Channel(theirs), echo).run()


def test_parts_come_before_the_answer(ends):
    def handle(data, context):
        context.cl_socket.send_chunk(context.get_request_id(0), 0, b"part", 200, "", {})
        return ["end"]

    part, end = _talk(ends, make_service(handle), _batch(1, "a"), Stop())
    assert isinstance(part, Chunk)
    assert (part.batch_id, part.position, part.result.body) == (1, 0, b"part")
    assert isinstance(end, Results)


def test_parts_name_the_place_among_all_that_were_sent(ends):
    def handle(data, context):
        for index, row in enumerate(data):
            context.cl_socket.send_chunk(
                context.get_request_id(index), index, row["body"].encode(), 200, "", {}
            )
        return ["end"] * len(data)

    *parts, end = _talk(ends, make_service(handle), _batch(1, "gone", "a", "b"), Cancel(1, [0]), Stop())
    assert [(part.position, part.result.body) for part in parts] == [(1, b"a"), (2, b"b")]
    assert _answers(end) == [None, b"end", b"end"]


@pytest.mark.parametrize("form", ["v2", "event"])
def test_continuous_batching_answers_in_the_form_of_the_request(ends, form):
    def handle(data, context):
        calls.append(data)
        context.stopping_criteria = {0: lambda answer: len(calls) == 2}
        return ["a"]

    calls = []
    entry = {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["text"]}
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {"instances": ["text"]}}
    asked = {
        "v2": InferenceRequest(
            "r", Verb.PREDICT, Envelope.V2, body=orjson.dumps({"inputs": [entry]}), model=("m", "1")
        ),
        "event": InferenceRequest(
            "r", Verb.PREDICT, Envelope.V1, content_type=STRUCTURED_TYPE, body=orjson.dumps(event)
        ),
    }[form]
    (message,) = _talk(ends, make_service(handle), Batch(1, [asked]), Stop(), continuous=True)
    answer = orjson.loads(message.results[0].body)
    assert len(calls) == 2
    if form == "v2":
        assert answer["outputs"] == [{"name": "x", "datatype": "BYTES", "shape": [1], "data": ["aa"]}]
    else:
        assert (answer["specversion"], answer["data"]) == ("1.0", {"predictions": ["aa"]})


def test_continuous_batching_ends_each_request_by_its_own_criterion(ends):
    def handle(data, context):
        if context.stopping_criteria is None:
            context.counts, context.wanted = {}, {}
        answers = []
        context.stopping_criteria = {}
        for index, row in enumerate(data):
            name = context.request_ids[index]
            context.counts[name] = context.counts.get(name, 0) + 1
            answers.append(f"{name}{context.counts[name]}")
            # What a request holds comes with its first call only.
            context.wanted.setdefault(name, int(row.get("body", 0)))
            done = context.counts[name] >= context.wanted[name]
            context.stopping_criteria[index] = lambda answer, done=done: done
        return answers

    batches = [
        Batch(1, [request("2", content_type="text/plain", request_id="x")]),
        Batch(2, [request("3", content_type="text/plain", request_id="y")]),
    ]
    messages = _talk(ends, make_service(handle), *batches, Stop(), continuous=True)
    bodies = {1: [], 2: []}
    for message in messages:
        result = message.result if isinstance(message, Chunk) else message.results[0]
        bodies[message.batch_id].append((type(message).__name__, result.body))
    assert bodies == {
        1: [("Chunk", b"x1"), ("Results", b"x2")],
        2: [("Chunk", b"y1"), ("Chunk", b"y2"), ("Results", b"y3")],
    }
