"""Predictions between the passes of an explanation: answered at once, and of no consequence for it."""

from __future__ import annotations

import socket
import time

import pytest
import torch
from runtime_fakes import make_service, request

from predictor.explain.budget import Budget, Limits
from predictor.explain.giving_way import give_way, given_away, giving_way, keeping_turn
from predictor.handlers.stopwatch import Stage, Stopwatch
from predictor.ipc.frames import FrameDecoder, encode_frame
from predictor.ipc.messages import Batch, Chunk, FromWorker, GivesWay, Results, Stop, Verb
from predictor.runtime import worker as module
from predictor.runtime.channel import Channel
from predictor.runtime.worker import Worker


def _talk(service, *messages):
    """Say everything at once; returns what the worker answered."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        for message in (*messages, Stop()):
            ours.sendall(encode_frame(message))
        Worker(Channel(theirs), service).run()
        theirs.shutdown(socket.SHUT_WR)
        received, decoder = [], FrameDecoder(FromWorker)
        while data := ours.recv(1 << 20):
            received += decoder.feed(data)
    return received


def _batch(number, text, verb=Verb.PREDICT):
    return Batch(number, [request(text, content_type="text/plain", request_id=text, verb=verb)])


def _service(passes, answer=lambda row, context: row):
    """Return a service whose handler runs `passes` for an explanation, and `answer` for a prediction."""

    def handle(data, context):
        explains = context.get_request_header(0, "explain") == "True"
        return [(passes if explains else answer)(row["body"], context) for row in data]

    return make_service(handle)


def _said(messages):
    return [
        ("gives way", message.batch_id)
        if isinstance(message, GivesWay)
        else (message.results[0].body or message.results[0].error, message.batch_id)
        for message in messages
    ]


def test_predictions_are_answered_between_passes():
    def passes(row, context):
        give_way()
        return f"explained {row}"

    messages = _talk(_service(passes), _batch(1, "x", Verb.EXPLAIN), _batch(2, "a"), _batch(3, "b"))
    assert _said(messages)[0] == ("gives way", 1)
    assert _said(messages)[1] == (b"a", 2)
    assert (b"explained x", 1) in _said(messages)
    assert (b"b", 3) in _said(messages)


def test_explanations_get_their_share(monkeypatch):
    monkeypatch.setattr(module, "PREDICTIONS_PER_EXPLANATION", 0.0)
    order = []

    def passes(row, context):
        for number in range(3):
            give_way()
            order.append(number)
        return "x"

    def answer(row, context):
        order.append(row)
        return row

    batches = [_batch(number, f"a{number}") for number in range(2, 8)]
    _talk(_service(passes, answer), _batch(1, "x", Verb.EXPLAIN), *batches)
    assert order == ["a2", 0, "a3", 1, "a4", 2, "a5", "a6", "a7"]


def test_nothing_is_said_where_nothing_gives_way():
    messages = _talk(_service(lambda row, context: row), _batch(1, "x", Verb.EXPLAIN), _batch(2, "a"))
    assert _said(messages) == [(b"x", 1), (b"a", 2)]


def test_predictions_do_not_give_way():
    def answer(row, context):
        give_way()
        return row

    messages = _talk(_service(answer, answer), _batch(1, "a"), _batch(2, "b"))
    assert _said(messages) == [(b"a", 1), (b"b", 2)]
    messages = _talk(_service(answer, answer), _batch(1, "x", Verb.EXPLAIN), _batch(2, "b"), _batch(3, "c"))
    assert sorted(_said(messages), key=str) == sorted(
        [("gives way", 1), (b"b", 2), (b"c", 3), (b"x", 1)], key=str
    )


def test_what_belongs_to_the_explanation_stays_its_own():
    seen = []

    def passes(row, context):
        context.cl_socket.send_chunk(context.get_request_id(0), 0, b"before", 200, "", {})
        give_way()
        seen.append((context.get_request_id(0), context.get_request_header(0, "explain")))
        context.set_response_header(0, "x-of", "explanation")
        context.cl_socket.send_chunk(context.get_request_id(0), 0, b"after", 200, "", {})
        return row

    def answer(row, context):
        seen.append((context.get_request_id(0), context.get_request_header(0, "explain")))
        context.set_response_header(0, "x-of", "prediction")
        return row

    messages = _talk(_service(passes, answer), _batch(1, "x", Verb.EXPLAIN), _batch(2, "a"))
    assert seen == [("a", "False"), ("x", "True")]
    headers = {m.batch_id: dict(m.results[0].headers)["x-of"] for m in messages if isinstance(m, Results)}
    assert headers == {1: "explanation", 2: "prediction"}
    parts = [(part.batch_id, part.result.body) for part in messages if isinstance(part, Chunk)]
    assert parts == [(1, b"before"), (1, b"after")]


def test_each_is_charged_with_its_own_time():
    def passes(row, context):
        give_way()
        time.sleep(0.001)
        return row

    def answer(row, context):
        time.sleep(0.05)
        return row

    started = time.monotonic()
    messages = _talk(_service(passes, answer), _batch(1, "x", Verb.EXPLAIN), _batch(2, "a"))
    elapsed = time.monotonic() - started
    spent = {m.batch_id: m.timing for m in messages if isinstance(m, Results)}
    assert spent[2].inference >= 0.05
    assert spent[1].decode + spent[1].inference + spent[1].encode <= elapsed - spent[2].inference


def test_a_prediction_that_fails_ends_no_explanation():
    def passes(row, context):
        give_way()
        return "explained"

    def answer(row, context):
        raise ValueError(row)

    messages = _talk(_service(passes, answer), _batch(1, "x", Verb.EXPLAIN), _batch(2, "a"))
    assert _said(messages) == [("gives way", 1), ("HandlerFailed", 2), (b"explained", 1)]


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)],
    ids=["no_grad", "inference_mode", "autocast"],
)
def test_predictions_find_torch_as_it_is_without_explanations(mode):
    seen = []

    def note(row, context):
        seen.append(
            (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
        )
        return row

    def passes(row, context):
        with mode():
            give_way()
            assert note(row, context) == row
        return row

    _talk(_service(passes, note), _batch(1, "x", Verb.EXPLAIN), _batch(2, "a"))
    assert seen[0] == (True, False, False)
    assert seen[1] != seen[0], "the explanation goes on as it was"


def test_time_that_others_took_is_not_the_explanations(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def others(seconds):
        nonlocal now
        now += 60.0

    owners = torch.zeros(1, dtype=torch.int64)
    with giving_way(others):
        budget = Budget(Limits(seconds=10.0), 1)
        for _ in range(3):
            budget.spend(owners)
        assert given_away() == 180.0
        with keeping_turn():
            budget.spend(owners)
        assert given_away() == 180.0
    assert given_away() == 0.0


def test_a_stopwatch_forgets_what_was_not_its_own(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watch = Stopwatch()
    watch.enter(Stage.INFERENCE)
    now = 7.0
    watch.skip(5.0)
    assert watch.read() == (0.0, 2.0, 0.0)


def test_a_pass_on_a_gpu_has_ended_before_others_run(monkeypatch):
    order = []

    class Stream:
        def synchronize(self):
            order.append("end of pass")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    give_way()
    assert order == [], "nobody waits"
    with giving_way(lambda seconds: order.append("others")):
        give_way()
    assert order == ["end of pass", "others"]
