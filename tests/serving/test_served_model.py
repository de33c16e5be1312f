"""A model version with workers that obey the test: what is sent when, and what every death leads to."""

from __future__ import annotations

import asyncio

import pytest
from serving_fakes import FakeWorker, archive, bodies, request, settle, until

from predictor.errors import (
    DeadlineExceeded,
    HandlerFailed,
    InvalidInput,
    ModelNotReady,
    QueueFull,
    ResponseTimeout,
    ShuttingDown,
    WorkerDied,
)
from predictor.ipc.messages import Envelope, InferenceResult, ModelInfo, Verb
from predictor.serving import pool as module
from predictor.serving.job import JobState
from predictor.serving.model import ModelState, ServedModel
from predictor.serving.policy import ServingPolicy
from predictor.serving.pool import WorkerOptions

pytestmark = pytest.mark.usefixtures("instantly")


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(module, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(module, "_RESTART_DELAYS", (0.0, 0.02, 0.04))


def _model(ready=True, **policy):
    policy.setdefault("max_workers", policy.get("min_workers", 1))
    return ServedModel(archive(), ServingPolicy(**policy), WorkerOptions(stop_grace=1.0))


async def _started(**policy):
    model = _model(**policy)
    await model.start()
    for worker in model.workers:
        worker.become_ready()
    return model


def _submit(model, *texts, **how):
    return [model.submit(request(text, **how)) for text in texts]


# life


async def test_states_from_start_to_stop():
    model = _model()
    assert model.state is ModelState.LOADING
    await model.start()
    assert model.state is ModelState.LOADING
    assert not model.ready
    (worker,) = model.workers
    worker.become_ready(ModelInfo(handler="h"))
    await model.settled()
    assert model.state is ModelState.READY
    assert model.info.handler == "h"
    assert model.device == "cpu"
    await model.stop()
    assert model.state is ModelState.STOPPED
    assert worker.stopped


async def test_what_a_worker_is_told(tmp_path):
    policy = ServingPolicy(min_workers=3, max_workers=3, batch_size=4, gpu_ids=(1, 2), threads=5)
    options = WorkerOptions(decode_input=False, limit_max_image_pixels=False, max_response_size=9)
    model = ServedModel(archive("m", "2.0", str(tmp_path)), policy, options)
    await model.start()
    loads = [worker.load for worker in model.workers]
    assert [load.gpu_id for load in loads] == [1, 2, 1]
    load = loads[0]
    assert (load.model_name, load.model_version, load.directory) == ("m", "2.0", str(tmp_path))
    assert (load.batch_size, load.threads, load.max_response_size) == (4, 5, 9)
    assert not load.decode_input
    assert not load.limit_max_image_pixels


async def test_requests_wait_for_the_first_worker():
    model = _model()
    await model.start()
    (job,) = _submit(model, "a")
    await settle()
    assert job.state is JobState.QUEUED
    model.workers[0].become_ready()
    await settle()
    model.workers[0].answer()
    assert (await job.future).body == b"a"
    assert job.state is JobState.DONE


async def test_stopping_answers_what_was_accepted_and_refuses_the_rest():
    model = await _started()
    running = asyncio.ensure_future(model.infer(request("a")))
    await settle()
    stopping = asyncio.ensure_future(model.stop())
    await settle()
    with pytest.raises(ShuttingDown):
        model.submit(request("b"))
    assert not model.workers[0].stopped
    model.workers[0].answer()
    await stopping
    assert (await running).body == b"a"
    assert model.workers[0].stopped


async def test_stopping_with_a_worker_that_never_answers_ends_after_the_grace():
    model = ServedModel(archive(), ServingPolicy(prefetch=0), WorkerOptions(stop_grace=0.05))
    await model.start()
    model.workers[0].become_ready()
    _, waiting = _submit(model, "a", "b")
    await settle()
    await asyncio.wait_for(model.stop(), 1)
    with pytest.raises(ShuttingDown):
        await waiting.future


# dispatch


async def test_jobs_of_one_turn_of_the_loop_share_a_batch():
    model = await _started(batch_size=8)
    jobs = _submit(model, "a", "b", "c")
    await settle()
    assert model.workers[0].batches == [["a", "b", "c"]]
    model.workers[0].answer()
    assert [(await job.future).body for job in jobs] == [b"a", b"b", b"c"]


async def test_a_free_worker_does_not_wait_by_default():
    model = await _started(batch_size=8)
    _submit(model, "a")
    await settle()
    assert model.workers[0].batches == [["a"]]


async def test_a_busy_worker_is_given_full_batches_only():
    model = await _started(batch_size=2, prefetch=1)
    worker = model.workers[0]
    for text in "abc":
        _submit(model, text)
        await settle()
    assert worker.batches == [["a"], ["b", "c"]], "one full batch ahead"
    _submit(model, "d", "e", "f")
    await settle()
    assert len(worker.batches) == 2, "no more than `prefetch` ahead"
    worker.answer()
    assert worker.batches[2:] == [["d", "e"]]
    worker.answer()
    assert worker.batches[3:] == [], "a partial batch waits until the worker is free"
    worker.answer()
    assert worker.batches[3:] == [["f"]]


async def test_a_busy_worker_is_not_given_a_partial_batch_because_other_groups_wait_too():
    model = await _started(batch_size=4)
    worker = model.workers[0]
    _submit(model, "running")
    await settle()
    _submit(model, "a", "b", "c")
    _submit(model, "t", envelope=Envelope.TORCHSERVE)
    await settle()
    assert worker.batches == [["running"]]


async def test_no_prefetch_when_it_is_off():
    model = await _started(batch_size=1, prefetch=0)
    _submit(model, "a", "b")
    await settle()
    assert model.workers[0].batches == [["a"]]


async def test_free_workers_are_used_before_anything_is_sent_ahead():
    model = await _started(batch_size=1, min_workers=2)
    _submit(model, "a", "b", "c", "d", "e")
    await settle()
    assert sorted(len(worker.batches) for worker in model.workers) == [2, 2]
    assert sorted(worker.batches[0][0] for worker in model.workers) == ["a", "b"]
    assert model.waiting == 1
    assert model.running == 4


async def test_groups_go_in_batches_of_their_own():
    model = await _started(batch_size=4)
    worker = model.workers[0]
    _submit(model, "a")
    _submit(model, "x", verb=Verb.EXPLAIN)
    _submit(model, "b")
    await settle()
    worker.answer()
    await settle()
    assert worker.batches == [["a", "b"], ["x"]]


async def test_a_batch_waits_for_its_delay_while_a_worker_is_free():
    model = await _started(batch_size=4, max_batch_delay=0.05)
    begun = asyncio.get_running_loop().time()
    _submit(model, "a")
    await settle()
    assert model.workers[0].batches == []
    _submit(model, "b")
    await asyncio.sleep(0.03)
    assert model.workers[0].batches == []
    await until(lambda: model.workers[0].batches)
    assert asyncio.get_running_loop().time() - begun == pytest.approx(0.05, abs=0.002)
    assert model.workers[0].batches == [["a", "b"]]


async def test_a_full_batch_does_not_wait_for_its_delay():
    model = await _started(batch_size=2, max_batch_delay=60)
    _submit(model, "a", "b")
    await settle()
    assert model.workers[0].batches == [["a", "b"]]


async def test_the_time_that_a_batch_waited_for_a_worker_counts_as_delay():
    model = await _started(batch_size=3, max_batch_delay=0.02)
    worker = model.workers[0]
    _submit(model, "a", "b", "c")
    await settle()
    _submit(model, "d")
    await asyncio.sleep(0.03)
    worker.answer()
    assert worker.batches == [["a", "b", "c"], ["d"]]


# answers


async def test_each_job_gets_its_own_answer_or_error():
    model = await _started(batch_size=3)
    jobs = _submit(model, "a", "b", "c")
    await settle()
    model.workers[0].answer(
        InferenceResult(201, "Made", [("x", "1")], b"A"),
        InferenceResult(400, error="InvalidInput", message="field 'x'"),
        InferenceResult(500, error="NotAClassOfOurs", message="?"),
    )
    assert (await jobs[0].future).status == 201
    with pytest.raises(InvalidInput, match="field 'x'"):
        await jobs[1].future
    with pytest.raises(HandlerFailed):
        await jobs[2].future


async def test_streamed_parts_reach_the_client_that_waits_for_them():
    model = await _started()
    asking = asyncio.ensure_future(model.begin(request("a")))
    await settle()
    worker = model.workers[0]
    sent = worker.inflight[0].jobs[0]
    sent.chunk(InferenceResult(body=b"1"))
    job, first = await asking
    assert first.body == b"1"
    sent.chunk(InferenceResult(body=b"2"))
    worker.answer(InferenceResult(body=b"3"))
    assert [part.body async for part in model.parts(job)] == [b"2", b"3"]
    assert job.state is JobState.DONE


async def test_infer_joins_the_parts():
    model = await _started()
    asking = asyncio.ensure_future(model.infer(request("a")))
    await settle()
    model.workers[0].inflight[0].jobs[0].chunk(InferenceResult(body=b"1"))
    model.workers[0].answer(InferenceResult(body=b"2"))
    assert (await asking).body == b"12"


async def test_a_stream_whose_worker_dies_breaks_off_and_is_not_run_again():
    model = await _started()
    asking = asyncio.ensure_future(model.begin(request("a")))
    await settle()
    model.workers[0].inflight[0].jobs[0].chunk(InferenceResult(body=b"1"))
    job, _ = await asking
    model.workers[0].die()
    with pytest.raises(WorkerDied):
        _ = [part async for part in model.parts(job)]
    assert model.waiting == 0


# limits


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back():
    model = await _started(queue_size=2, prefetch=0)
    _submit(model, "running")
    await settle()
    _submit(model, "a", "b")
    with pytest.raises(QueueFull) as refused:
        model.submit(request("c"))
    assert 1 <= refused.value.retry_after <= 30
    assert refused.value.model == "m"
    model.workers[0].answer()
    assert model.submit(request("c")).state is JobState.QUEUED


async def test_a_request_that_waited_too_long_is_not_started():
    model = await _started(client_timeout=0.03, prefetch=0)
    _submit(model, "running")
    await settle()
    (late,) = _submit(model, "late")
    with pytest.raises(DeadlineExceeded, match=r"longer than 0.03 s"):
        await late.future
    model.workers[0].answer()
    await settle()
    assert model.workers[0].batches == [["running"]]
    assert model.waiting == 0


async def test_the_deadline_does_not_touch_what_runs():
    model = await _started(client_timeout=0.02)
    (job,) = _submit(model, "a")
    await asyncio.sleep(0.04)
    model.workers[0].answer()
    assert (await job.future).body == b"a"


async def test_a_deadline_that_passed_while_a_worker_held_the_request_counts_when_it_dies():
    model = await _started(client_timeout=0.02)
    (job,) = _submit(model, "a")
    await asyncio.sleep(0.04)
    model.workers[0].die()
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(job.future, 0.5)


# cancellation, in every state


async def test_a_client_that_leaves_the_queue_is_never_computed():
    model = await _started(prefetch=0)
    _submit(model, "running")
    await settle()
    asking = asyncio.ensure_future(model.infer(request("gone")))
    await settle()
    assert model.waiting == 1
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert model.waiting == 0
    model.workers[0].answer()
    await settle()
    assert model.workers[0].batches == [["running"]]


async def test_a_client_that_leaves_after_the_request_was_sent_has_the_worker_told():
    model = await _started(batch_size=2)
    asking = [asyncio.ensure_future(model.infer(request(text))) for text in "ab"]
    await settle()
    asking[0].cancel()
    await settle()
    worker = model.workers[0]
    assert worker.cancelled == ["a"]
    worker.answer(None, InferenceResult(body=b"B"))
    assert (await asking[1]).body == b"B"
    assert model.running == 0


async def test_an_answer_that_comes_although_the_client_has_left():
    model = await _started()
    (job,) = _submit(model, "a")
    await settle()
    model.cancel(job)
    model.workers[0].answer()
    assert job.state is JobState.CANCELLED
    assert model.ready


async def test_a_cancelled_request_is_not_tried_again_when_its_worker_dies():
    model = await _started(batch_size=2)
    gone, stays = _submit(model, "gone", "stays")
    await settle()
    model.cancel(gone)
    model.workers[0].die()
    await settle()
    model.workers[0].become_ready()
    await settle()
    assert model.workers[0].batches == [["stays"]]
    model.workers[0].answer()
    assert (await stays.future).body == b"stays"


async def test_cancelling_what_is_done_changes_nothing():
    model = await _started()
    (job,) = _submit(model, "a")
    await settle()
    model.workers[0].answer()
    model.cancel(job)
    assert job.state is JobState.DONE
    assert (await job.future).body == b"a"


async def test_leaving_a_stream_early_withdraws_the_request():
    model = await _started()
    asking = asyncio.ensure_future(model.begin(request("a")))
    await settle()
    worker = model.workers[0]
    worker.inflight[0].jobs[0].chunk(InferenceResult(body=b"1"))
    job, _ = await asking
    parts = model.parts(job)
    waiting = asyncio.ensure_future(anext(parts))
    await settle()
    waiting.cancel()
    await settle()
    assert worker.cancelled == ["a"]
    assert job.state is JobState.CANCELLED
    worker.answer()


# death


async def test_a_request_is_tried_once_more_on_another_worker():
    model = await _started(min_workers=2)
    (job,) = _submit(model, "a")
    await settle()
    first, second = model.workers
    first.die()
    await settle()
    assert second.batches == [["a"]]
    second.answer()
    assert (await job.future).body == b"a"


async def test_a_request_that_kills_two_workers_is_answered_with_an_error():
    model = await _started(min_workers=2)
    (job,) = _submit(model, "poison")
    await settle()
    for worker in list(model.workers):
        worker.die()
        await settle()
    with pytest.raises(WorkerDied, match="exited with code 7"):
        await asyncio.wait_for(job.future, 1)
    await settle()
    for worker in model.workers:
        worker.become_ready()
    await settle()
    assert all(worker.batches == [] for worker in model.workers)


async def test_an_explanation_is_not_tried_again():
    model = await _started(min_workers=2)
    (job,) = _submit(model, "a", verb=Verb.EXPLAIN)
    await settle()
    model.workers[0].die()
    with pytest.raises(WorkerDied):
        await job.future


async def test_neighbours_of_a_poison_survive_it():
    model = await _started(batch_size=3)
    jobs = _submit(model, "a", "poison", "b")
    await settle()
    model.workers[0].die()
    answered = {}
    for _ in range(8):
        await settle()
        (worker,) = model.workers
        if not worker.alive:
            worker.become_ready()
            await settle()
        if not worker.inflight:
            break
        if "poison" in bodies(worker.inflight[0].jobs):
            assert worker.batches[-1] == ["poison"] or worker.batches[0] == ["poison"], "it travels alone"
            worker.die()
        else:
            answered[worker.batches[-1][0]] = True
            worker.answer()
    assert (await jobs[0].future).body == b"a"
    assert (await jobs[2].future).body == b"b"
    with pytest.raises(WorkerDied):
        await jobs[1].future


async def test_batches_sent_ahead_are_innocent_of_a_death():
    model = await _started(batch_size=2)
    running = _submit(model, "a", "b")
    ahead = _submit(model, "c", "d")
    await settle()
    assert model.workers[0].batches == [["a", "b"], ["c", "d"]]
    model.workers[0].die()
    assert [job.deaths for job in running] == [1, 1]
    assert [job.deaths for job in ahead] == [0, 0]
    await settle()
    worker = model.workers[0]
    worker.become_ready()
    await settle()
    while worker.inflight:
        worker.answer()
        await settle()
    assert worker.batches == [["a"], ["b"], ["c", "d"]]
    assert [(await job.future).body for job in running + ahead] == [b"a", b"b", b"c", b"d"]


async def test_a_timeout_is_an_error_for_what_ran_and_a_retry_for_what_was_ahead():
    model = await _started(batch_size=1, response_timeout=5)
    running, ahead = _submit(model, "a", "b")
    await settle()
    model.workers[0].die(timed_out=True)
    with pytest.raises(ResponseTimeout, match="within 5 s"):
        await running.future
    await settle()
    model.workers[0].become_ready()
    await settle()
    model.workers[0].answer()
    assert (await ahead.future).body == b"b"


async def test_a_dead_worker_is_replaced_at_once_and_the_model_recovers():
    model = await _started()
    model.workers[0].die()
    assert model.state is ModelState.RECOVERING
    await settle()
    (worker,) = model.workers
    assert worker.number == 1
    worker.become_ready()
    assert model.state is ModelState.READY


async def test_the_other_workers_keep_the_model_ready():
    model = await _started(min_workers=2)
    model.workers[0].die()
    assert model.state is ModelState.READY
    assert model.healthy


async def test_a_model_that_cannot_be_loaded_refuses_with_the_reason():
    model = _model()
    await model.start()
    model.workers[0].fail_to_load("could not load its model: OSError: no weights")
    await model.settled()
    assert model.state is ModelState.RECOVERING
    with pytest.raises(ModelNotReady, match="no weights"):
        model.submit(request("a"))
    assert model.healthy, "TorchServe stays healthy while it retries"


async def test_starts_that_fail_are_repeated_after_growing_delays():
    model = _model()
    await model.start()
    loop = asyncio.get_running_loop()
    gaps = []
    for _ in range(4):
        model.workers[0].fail_to_load()
        assert model.workers == []
        begun = loop.time()
        await until(lambda: model.workers)
        gaps.append(loop.time() - begun)
        await settle()
    # The first death is no reason to wait, and the last delay repeats.
    assert gaps == pytest.approx([0.0, 0.02, 0.04, 0.04], abs=0.002)
    model.workers[0].become_ready()
    assert model.state is ModelState.READY
    assert model.failure == ""


async def test_a_model_that_keeps_dying_is_given_up_after_its_time():
    model = _model(max_retry_timeout=0.05)
    await model.start()
    job = model.submit(request("waits"))
    for _ in range(10):
        if model.state is ModelState.FAILED:
            break
        if model.workers:
            model.workers[0].fail_to_load("broken")
        await asyncio.sleep(0.03)
    assert model.state is ModelState.FAILED
    assert not model.healthy
    assert model.workers == []
    with pytest.raises(ModelNotReady):
        await job.future
    with pytest.raises(ModelNotReady, match="broken"):
        model.submit(request("late"))


async def test_being_short_of_workers_for_too_long_is_unhealthy_and_ends():
    model = _model(min_workers=2, max_retry_timeout=0.02)
    await model.start()
    model.workers[0].become_ready()
    assert model.healthy
    await asyncio.sleep(0.03)
    assert model.ready
    assert not model.healthy
    model.workers[1].become_ready()
    assert model.healthy


async def test_a_death_while_stopping_still_answers_the_accepted():
    model = await _started()
    asking = asyncio.ensure_future(model.infer(request("a")))
    await settle()
    stopping = asyncio.ensure_future(model.stop())
    await settle()
    model.workers[0].die()
    await settle()
    model.workers[0].become_ready()
    await settle()
    model.workers[0].answer()
    assert (await asking).body == b"a"
    await stopping


async def test_with_job_tickets_nobody_waits_for_a_busy_worker():
    model = await _started(job_tickets=True)
    (job,) = _submit(model, "a")
    await settle()
    with pytest.raises(QueueFull, match="useJobTicket"):
        _submit(model, "b")
    model.workers[0].answer()
    await job.future
    assert _submit(model, "c")


# scaling


async def test_scaling_up_starts_what_is_missing_and_is_reached_once_all_have_loaded():
    model = await _started()
    await model.scale(3, 3, threads=2)
    assert len(model.workers) == 3
    assert model.policy.min_workers == model.policy.max_workers == 3
    reached = asyncio.ensure_future(model.reached())
    model.workers[1].become_ready()
    await settle()
    assert not reached.done()
    model.workers[2].become_ready()
    assert await reached
    assert [worker.load.threads for worker in model.workers] == [0, 2, 2]


async def test_between_minimum_and_maximum_the_workers_stay_as_they_are():
    model = await _started(min_workers=2)
    await model.scale(1, 4, threads=0)
    assert len(model.workers) == 2
    assert await model.reached()


async def test_scaling_down_sends_away_the_idle_and_lets_the_busy_finish():
    model = await _started(min_workers=3)
    jobs = _submit(model, "a", "b")
    await settle()
    busy = [worker for worker in model.workers if worker.inflight]
    await model.scale(1, 1, threads=0)
    reached = asyncio.ensure_future(model.reached())
    await settle()
    leaving = [worker for worker in model.workers if worker.stopped]
    assert len(leaving) == 2
    assert len([worker for worker in leaving if worker.inflight]) == 1
    for worker in busy:
        worker.answer()
    for worker in leaving:
        worker.die()
    assert await reached
    assert [(await job.future).body for job in jobs] == [b"a", b"b"]
    assert len(model.workers) == 1
    assert model.failure == ""


async def test_a_leaving_worker_that_dies_leaves_its_requests_to_the_others():
    model = await _started(min_workers=2)
    jobs = _submit(model, "a", "b")
    await settle()
    await model.scale(1, 1, threads=0)
    await settle()
    gone = next(worker for worker in model.workers if worker.stopped)
    stays = next(worker for worker in model.workers if not worker.stopped)
    gone.die()
    stays.answer()
    await settle()
    stays.answer()
    assert {(await job.future).body for job in jobs} == {b"a", b"b"}
    assert len(model.workers) == 1


async def test_no_worker_is_idle_and_healthy_and_comes_back():
    model = await _started()
    await model.scale(0, 0, threads=0)
    await settle()
    model.workers[0].die()
    assert await model.reached()
    assert model.state is ModelState.IDLE
    assert model.healthy
    with pytest.raises(ModelNotReady):
        model.submit(request("x"))
    await model.scale(1, 1, threads=0)
    assert model.state is ModelState.LOADING
    (job,) = _submit(model, "y")
    model.workers[0].become_ready()
    await settle()
    model.workers[0].answer()
    assert (await job.future).body == b"y"


async def test_scaling_up_is_not_reached_when_a_worker_cannot_be_loaded():
    model = await _started()
    await model.scale(2, 2, threads=0)
    reached = asyncio.ensure_future(model.reached())
    model.workers[1].fail_to_load()
    assert not await reached
    assert model.ready


async def test_scaling_down_takes_back_a_restart_that_is_due(monkeypatch):
    monkeypatch.setattr(module, "_RESTART_DELAYS", (30.0,))
    model = await _started(min_workers=2)
    model.workers[1].die()
    await model.scale(1, 1, threads=0)
    await settle()
    assert await model.reached()
    assert len(model.workers) == 1
    assert not model.workers[0].stopped


async def test_new_workers_go_where_the_fewest_are():
    model = await _started(min_workers=2, gpu_ids=(0, 1))
    assert [worker.gpu_id for worker in model.workers] == [0, 1]
    model.workers[0].die()
    await until(lambda: len(model.workers) == 2)
    assert sorted(worker.gpu_id for worker in model.workers) == [0, 1]
    await model.scale(4, 4, threads=0)
    assert sorted(worker.gpu_id for worker in model.workers) == [0, 0, 1, 1]


async def test_a_model_that_was_given_up_is_tried_again_when_scaled():
    model = _model(max_retry_timeout=0.01)
    await model.start()
    await asyncio.sleep(0.02)
    model.workers[0].fail_to_load()
    assert model.state is ModelState.FAILED
    await model.scale(1, 1, threads=0)
    assert model.healthy
    model.workers[0].become_ready()
    assert await model.reached()
