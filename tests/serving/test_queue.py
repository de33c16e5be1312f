from __future__ import annotations

import pytest
from serving_fakes import bodies, request

from predictor.ipc.messages import Envelope, Verb
from predictor.serving.job import Job
from predictor.serving.queue import JobQueue


@pytest.fixture
def make(loop):
    clock = iter(range(1, 1000))

    def job(body, verb=Verb.PREDICT, envelope=Envelope.V1, deaths=0):
        made = Job(request(body, verb, envelope), loop)
        made.arrived = float(next(clock))
        made.deaths = deaths
        return made

    return job


def _queue(*jobs, limit=100):
    queue = JobQueue(limit)
    for job in jobs:
        queue.push(job)
    return queue


def test_an_empty_queue(make):
    queue = _queue()
    assert len(queue) == 0
    assert queue.ready_at(4, 0) is None
    assert queue.take(4) == []
    assert queue.drain() == []


def test_order_of_arrival(make):
    queue = _queue(*(make(text) for text in "abcde"))
    assert bodies(queue.take(2)) == ["a", "b"]
    assert bodies(queue.take(2)) == ["c", "d"]
    assert bodies(queue.take(2)) == ["e"]
    assert len(queue) == 0


def test_groups_never_share_a_batch_and_the_oldest_goes_first(make):
    queue = _queue(
        make("p1"),
        make("e1", Verb.EXPLAIN),
        make("p2"),
        make("t1", envelope=Envelope.TORCHSERVE),
        make("e2", Verb.EXPLAIN),
    )
    batches = [bodies(queue.take(8)) for _ in range(3)]
    assert batches == [["p1", "p2"], ["e1", "e2"], ["t1"]]


def test_no_group_starves(make):
    queue = _queue(make("p1"), make("e1", Verb.EXPLAIN))
    assert bodies(queue.take(1)) == ["p1"]
    queue.push(make("p2"))
    assert bodies(queue.take(1)) == ["e1"]


def test_the_limit_refuses_but_not_what_comes_back(make):
    first, second, third = make("a"), make("b"), make("c")
    queue = _queue(first, second, limit=2)
    assert queue.refusal(third) == "2 requests wait, which is the limit"
    taken = queue.take(2)
    assert queue.refusal(third) is None
    queue.push(third)
    queue.push_front(taken)
    assert len(queue) == 3
    assert bodies(queue.take(8)) == ["a", "b", "c"]


def test_a_job_that_was_running_when_its_worker_died_travels_alone(make):
    queue = _queue(make("x"), make("y"))
    queue.push_front([make("a", deaths=1), make("b", deaths=1)])
    assert [bodies(queue.take(8)) for _ in range(3)] == [["a"], ["b"], ["x", "y"]]


def test_a_prefetched_batch_comes_back_behind_the_one_that_was_running(make):
    queue = _queue(make("new"))
    queue.push_front([make("ahead1"), make("ahead2")])
    queue.push_front([make("running", deaths=1)])
    assert [bodies(queue.take(8)) for _ in range(2)] == [["running"], ["ahead1", "ahead2", "new"]]


def test_when_a_batch_may_leave(make):
    job = make("a")
    queue = _queue(job)
    assert queue.ready_at(2, 0) == job.arrived
    assert queue.ready_at(2, 0.5) == job.arrived + 0.5
    assert queue.ready_at(1, 0.5) == job.arrived, "a full batch does not wait"
    job.deaths = 1
    assert queue.ready_at(2, 0.5) == job.arrived, "a second try does not wait"


def test_discarding(make):
    jobs = [make(text) for text in "abc"]
    queue = _queue(*jobs)
    queue.discard(jobs[1])
    queue.discard(jobs[1])
    queue.discard(make("stranger", Verb.EXPLAIN))
    assert len(queue) == 2
    assert bodies(queue.take(8)) == ["a", "c"]
    queue.discard(jobs[0])
    assert len(queue) == 0


def test_draining_empties_all_groups(make):
    queue = _queue(make("a"), make("b", Verb.EXPLAIN))
    assert bodies(queue.drain()) == ["a", "b"]
    assert len(queue) == 0
    assert queue.take(8) == []
