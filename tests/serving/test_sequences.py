from __future__ import annotations

import pytest
from serving_fakes import bodies

from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.serving.job import Job
from predictor.serving.sequences import SequencePolicy, SequenceQueue


@pytest.fixture
def make(loop):
    clock = iter(range(1, 1000))

    def job(body, sequence="", end=False):
        headers = [("Ts_Request_Sequence_Id", sequence)] if sequence else []
        headers += [("ts_request_sequence_end", "True")] if end else []
        sent = InferenceRequest("id", Verb.PREDICT, Envelope.TORCHSERVE, headers, body=body.encode())
        made = Job(sent, loop)
        made.arrived = float(next(clock))
        return made

    return job


def _queue(*jobs, **policy):
    queue = SequenceQueue(SequencePolicy(**{"max_sequences": 8, "queue_size": 8, **policy}))
    for job in jobs:
        queue.push(job)
    return queue


def test_a_batch_holds_one_request_of_each_sequence_in_order_of_arrival(make):
    queue = _queue(make("a1", "a"), make("a2", "a"), make("b1", "b"))
    assert bodies(queue.take(8, 0)) == ["a1", "b1"]
    assert len(queue) == 1


def test_a_sequence_goes_on_when_its_last_request_is_answered(make):
    queue = _queue(make("a1", "a"), make("a2", "a"))
    (first,) = queue.take(8, 0)
    assert queue.take(8, 0) == []
    assert queue.ready_at(8, 0, 0) is None
    queue.done(first)
    assert bodies(queue.take(8, 0)) == ["a2"]


def test_a_sequence_stays_with_its_worker(make):
    queue = _queue(make("a1", "a"), make("a2", "a"))
    queue.done(queue.take(8, 3)[0])
    assert queue.take(8, 4) == []
    assert queue.ready_at(8, 0, 4) is None
    assert bodies(queue.take(8, 3)) == ["a2"]


def test_a_sequence_whose_worker_died_goes_on_elsewhere(make):
    queue = _queue(make("a1", "a"), make("a2", "a"))
    queue.done(queue.take(8, 3)[0])
    queue.worker_lost(3)
    assert bodies(queue.take(8, 4)) == ["a2"]


def test_too_many_sequences_and_too_long_ones(make):
    queue = _queue(make("a1", "a"), max_sequences=1, queue_size=1)
    assert "1 sequences are open" in queue.refusal(make("b1", "b"))
    assert "1 requests waiting" in queue.refusal(make("a2", "a"))
    queue.take(8, 0)
    assert queue.refusal(make("a2", "a")) is None


def test_the_last_request_frees_the_place(make):
    queue = _queue(make("a1", "a", end=True), max_sequences=1)
    (last,) = queue.take(8, 0)
    assert queue.refusal(make("b1", "b")) is not None
    queue.done(last)
    assert queue.refusal(make("b1", "b")) is None


def test_an_idle_sequence_is_forgotten(make):
    queue = _queue(make("a1", "a"), max_sequences=1, max_idle=2)
    queue.done(queue.take(8, 0)[0])
    late = make("b1", "b")
    assert queue.refusal(late) is not None
    late.arrived += 10
    assert queue.refusal(late) is None


def test_a_request_without_an_id_begins_a_sequence_that_the_handler_can_see(make):
    job = make("x")
    queue = _queue(job)
    headers = dict(job.request.headers)
    assert headers["ts_request_sequence_id"].startswith("ts-seq-")
    assert headers["ts_request_sequence_start"] == "true"
    assert bodies(queue.take(8, 0)) == ["x"]


def test_what_was_sent_but_not_started_comes_back_in_its_place(make):
    queue = _queue(make("a1", "a"), make("a2", "a"), make("b1", "b"))
    queue.push_front(queue.take(8, 0))
    assert len(queue) == 3
    assert bodies(queue.take(8, 0)) == ["a1", "b1"]


def test_discarding(make):
    first, second = make("a1", "a"), make("a2", "a")
    queue = _queue(first, second)
    queue.discard(first)
    queue.discard(first)
    assert bodies(queue.take(8, 0)) == ["a2"]


def test_discarding_the_last_request_frees_its_place(make):
    last = make("a1", "a", end=True)
    queue = _queue(last, max_sequences=1)
    queue.discard(last)
    assert queue.refusal(make("b1", "b")) is None


def test_draining(make):
    queue = _queue(make("a1", "a"), make("b1", "b"))
    assert sorted(bodies(queue.drain())) == ["a1", "b1"]
    assert len(queue) == 0
