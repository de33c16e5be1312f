from __future__ import annotations

import asyncio

import pytest
from serving_fakes import request

from predictor.errors import WorkerDied
from predictor.ipc.messages import InferenceResult, Verb
from predictor.serving.job import Job, JobState


def _job(verb=Verb.PREDICT):
    return Job(request("x", verb), asyncio.get_running_loop())


def _result(text):
    return InferenceResult(body=text.encode())


async def test_one_answer():
    job = _job()
    job.finish(_result("a"))
    assert (await job.future).body == b"a"
    assert job.state is JobState.DONE
    assert job.stream is None
    assert [part async for part in job.parts()] == []


async def test_a_second_answer_changes_nothing():
    job = _job()
    job.finish(_result("a"))
    job.finish(_result("b"))
    job.fail(WorkerDied("late"))
    assert (await job.future).body == b"a"


async def test_an_error():
    job = _job()
    job.fail(WorkerDied("gone"))
    with pytest.raises(WorkerDied, match="gone"):
        await job.future
    assert job.state is JobState.DONE


async def test_parts_come_in_order_and_end_with_the_result():
    job = _job()
    job.chunk(_result("a"))
    assert (await job.future).body == b"a"
    job.chunk(_result("b"))
    job.finish(_result("c"))
    assert [part.body async for part in job.parts()] == [b"b", b"c"]


async def test_a_stream_that_breaks_off_raises_after_its_last_part():
    job = _job()
    job.chunk(_result("a"))
    job.chunk(_result("b"))
    job.fail(WorkerDied("gone"))
    parts = job.parts()
    assert (await anext(parts)).body == b"b"
    with pytest.raises(WorkerDied):
        await anext(parts)


async def test_what_a_worker_says_after_the_client_left_is_dropped():
    job = _job()
    job.state = JobState.CANCELLED
    job.future.cancel()
    job.finish(_result("late"))
    job.chunk(_result("late"))
    assert job.state is JobState.CANCELLED
    assert job.future.cancelled()


async def test_the_deadline_ends_with_the_job():
    job = _job()
    job.deadline_timer = asyncio.get_running_loop().call_later(100, lambda: None)
    timer = job.deadline_timer
    job.finish(_result("a"))
    assert timer.cancelled()
    assert job.deadline_timer is None


async def test_which_jobs_may_run_again():
    job = _job()
    assert job.may_run_again
    job.deaths = 1
    assert job.may_run_again
    job.deaths = 2
    assert not job.may_run_again
    assert not _job(Verb.EXPLAIN).may_run_again
    streaming = _job()
    streaming.chunk(_result("a"))
    assert not streaming.may_run_again
