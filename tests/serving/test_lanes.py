"""Predictions and explanations of one model: who may use which worker when, and what each survives."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_fakes import FakeWorker, archive, request, settle, until

from predictor.errors import DeadlineExceeded, ModelNotReady, QueueFull, ResponseTimeout, WorkerDied
from predictor.ipc.messages import InferenceResult, Results, Timing, Verb
from predictor.serving import pool as module
from predictor.serving.explaining import read_serving_keys
from predictor.serving.model import ModelState, ServedModel
from predictor.serving.policy import ServingPolicy
from predictor.serving.pool import WorkerOptions
from predictor.serving.sequences import SequencePolicy


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    monkeypatch.setattr(module, "WorkerProcess", FakeWorker)
    monkeypatch.setattr(module, "_RESTART_DELAYS", (0.0, 0.01))


async def _started(*, ready=True, **policy):
    policy.setdefault("max_workers", policy.get("min_workers", 1))
    model = ServedModel(archive(), ServingPolicy(**policy), WorkerOptions(stop_grace=0.5))
    await model.start()
    for worker in model.workers:
        worker.become_ready()
    await settle()
    for worker in model.explanation_workers if ready else ():
        worker.become_ready()
    await settle()
    return model


def _predict(model, *texts):
    return [model.submit(request(text)) for text in texts]


def _explain(model, *texts):
    return [model.submit(request(text, verb=Verb.EXPLAIN)) for text in texts]


# one list of workers


async def test_explanations_are_sent_one_by_one_to_a_worker_that_holds_nothing():
    model = await _started(batch_size=4)
    (worker,) = model.workers
    _explain(model, "x", "y")
    await settle()
    assert worker.batches == [["x"]]
    worker.answer()
    await settle()
    assert worker.batches == [["x"], ["y"]]


async def test_nothing_is_sent_behind_an_explanation_that_does_not_give_way():
    model = await _started(batch_size=1, prefetch=1)
    (worker,) = model.workers
    _explain(model, "x")
    await settle()
    _predict(model, "a", "b")
    await settle()
    assert worker.batches == [["x"]]
    worker.answer()
    await settle()
    assert worker.batches == [["x"], ["a"], ["b"]], "and the second is sent ahead as ever"


async def test_predictions_are_sent_behind_an_explanation_that_gives_way():
    model = await _started(batch_size=1, prefetch=1)
    (worker,) = model.workers
    (explained,) = _explain(model, "x")
    await settle()
    predicted = _predict(model, "a", "b", "c")
    await settle()
    worker.give_way()
    await settle()
    assert worker.batches == [["x"], ["a"], ["b"]], "one to run, and one ahead"
    worker.answer_between()
    await settle()
    assert worker.batches == [["x"], ["a"], ["b"], ["c"]]
    assert (await predicted[0].future).body == b"a"
    assert not explained.future.done()
    worker.answer()
    assert (await explained.future).body == b"x"
    await settle()
    worker.answer()
    worker.answer()
    assert [(await job.future).body for job in predicted] == [b"a", b"b", b"c"]


async def test_no_second_explanation_is_sent_behind_one_that_gives_way():
    model = await _started()
    (worker,) = model.workers
    _explain(model, "x", "y")
    await settle()
    worker.give_way()
    await settle()
    assert worker.batches == [["x"]]


async def test_a_worker_that_only_predicts_goes_first_and_takes_what_is_not_a_full_batch():
    model = await _started(min_workers=2, batch_size=2, prefetch=1)
    _explain(model, "x")
    await settle()
    (explaining,) = [worker for worker in model.workers if worker.inflight]
    (other,) = [worker for worker in model.workers if not worker.inflight]
    explaining.give_way()
    _predict(model, "a", "b", "c")
    await settle()
    assert (other.batches, explaining.batches) == ([["a", "b"]], [["x"]])
    _predict(model, "d", "e", "f")
    await settle()
    assert (other.batches, explaining.batches) == ([["a", "b"], ["c", "d"]], [["x"], ["e", "f"]])


async def test_what_predictions_took_is_not_held_against_the_explanation(monkeypatch):
    """An explanation of 1 s that let predictions run for 4 s has had no more than its fifth."""
    model = await _started(prefetch=0)
    (worker,) = model.workers
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    _explain(model, "x", "y")
    await settle()
    worker.give_way()
    _predict(model, "a", "b")
    await settle()
    now += 5.0
    worker.answer_between()
    await settle()
    explained = worker.inflight.popleft()
    timing = Timing(now - 5.0, decode=0.0, inference=1.0, encode=0.0)
    done = Results(explained.id, [InferenceResult(body=b"x")], timing)
    worker.owner.worker_answered(worker, explained, done)
    _predict(model, "c")
    await settle()
    assert worker.batches == [["x"], ["a"], ["b"]]
    worker.answer()
    await settle()
    assert worker.batches == [["x"], ["a"], ["b"], ["y"]], "the other explanation need not wait any longer"


@pytest.mark.usefixtures("instantly")
@pytest.mark.parametrize("timed_out", [False, True])
async def test_a_worker_that_dies_between_passes(timed_out):
    """Nobody knows which of both did it: the explanation ends, the prediction is tried once more."""
    model = await _started()
    (worker,) = model.workers
    (explained,) = _explain(model, "x")
    await settle()
    worker.give_way()
    (predicted,) = _predict(model, "a")
    await settle()
    worker.die(timed_out)
    with pytest.raises(ResponseTimeout if timed_out else WorkerDied):
        await explained.future
    await until(lambda: model.workers)
    assert (predicted.deaths, predicted.future.done()) == (1, False)
    model.workers[0].become_ready()
    await settle()
    model.workers[0].die(timed_out)
    with pytest.raises(ResponseTimeout if timed_out else WorkerDied):
        await predicted.future


@pytest.mark.usefixtures("instantly")
async def test_a_prediction_that_may_have_begun_between_passes_is_not_called_late():
    model = await _started(client_timeout=0.02, prefetch=1)
    (worker,) = model.workers
    _explain(model, "x")
    await settle()
    worker.give_way()
    first, second = _predict(model, "a", "b")
    await settle()
    assert worker.batches == [["x"], ["a"], ["b"]]
    with pytest.raises(DeadlineExceeded):
        await second.future
    assert worker.cancelled == ["b"]
    worker.answer_between()
    assert (await first.future).body == b"a"
    await model.stop()


async def test_an_explanation_is_not_sent_behind_predictions():
    model = await _started()
    (worker,) = model.workers
    _predict(model, "a")
    await settle()
    _explain(model, "x")
    await settle()
    assert worker.batches == [["a"]]
    worker.answer()
    await settle()
    assert worker.batches == [["a"], ["x"]]


async def test_predictions_go_first_where_both_wait():
    model = await _started()
    (worker,) = model.workers
    _explain(model, "x")
    await settle()
    _explain(model, "y", "z")
    _predict(model, "a")
    await settle()
    worker.answer()
    await settle()
    assert worker.batches == [["x"], ["a"]]


async def test_a_stream_of_predictions_does_not_starve_explanations_nor_they_the_predictions(monkeypatch):
    """Predictions always wait; an explanation takes 4 s, a prediction 1 s: they share the time 4 to 1."""
    model = await _started(prefetch=1)
    (worker,) = model.workers
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    _explain(model, *(f"x{number}" for number in range(50)))
    spent = {True: 0.0, False: 0.0}
    for number in range(200):
        _predict(model, *(f"a{number}-{more}" for more in range(3 - _predictions_waiting(model))))
        await settle()
        explains = worker.inflight[0].jobs[0].request.verb is Verb.EXPLAIN
        seconds = 4.0 if explains else 1.0
        spent[explains] += seconds
        now += seconds
        worker.answer()
        await settle()
    assert spent[True] / sum(spent.values()) == pytest.approx(0.2, abs=0.02)


def _predictions_waiting(model):
    return model.waiting - model.explanations_waiting


async def test_one_of_several_workers_never_explains():
    model = await _started(min_workers=3)
    _explain(model, "x", "y", "z")
    await settle()
    assert sorted(len(worker.batches) for worker in model.workers) == [0, 1, 1]
    _predict(model, "a")
    await settle()
    assert [["a"]] in [worker.batches for worker in model.workers]


async def test_queues_are_bounded_apart():
    model = await _started(queue_size=2, explain_queue_size=1, prefetch=0)
    _explain(model, "x")
    await settle()
    _explain(model, "y")
    with pytest.raises(QueueFull) as caught:
        _explain(model, "z")
    assert caught.value.retry_after >= 1
    _predict(model, "a", "b")
    with pytest.raises(QueueFull):
        _predict(model, "c")
    assert (model.waiting, model.explanations_waiting) == (3, 1)


async def test_explanations_have_their_own_time_limit():
    model = await _started(response_timeout=3.0, explain_timeout=9.0)
    (worker,) = model.workers
    _explain(model, "x")
    await settle()
    assert worker.inflight[0].timeout == 9.0
    worker.answer()
    _predict(model, "a")
    await settle()
    assert worker.inflight[0].timeout == 3.0


async def test_a_waiting_explanation_is_withdrawn():
    model = await _started()
    (worker,) = model.workers
    _, waiting = _explain(model, "x", "y")
    await settle()
    model.cancel(waiting)
    assert model.waiting == 0
    worker.answer()
    await settle()
    assert worker.batches == [["x"]]


@pytest.mark.usefixtures("instantly")
@pytest.mark.parametrize("way", ["cancelled", "late"])
async def test_an_explanation_outlives_the_prediction_that_it_waited_for(way):
    late = {"client_timeout": 0.4} if way == "late" else {}
    model = await _started(batch_size=4, max_batch_delay=60.0, **late)
    (worker,) = model.workers
    (predicted,) = _predict(model, "a")
    await settle()
    if way == "late":
        await asyncio.sleep(0.3)
    (explained,) = _explain(model, "x")
    await settle()
    assert worker.batches == [], "predictions go first, and wait for others to fill their batch"
    if way == "cancelled":
        model.cancel(predicted)
    else:
        with pytest.raises(DeadlineExceeded):
            await predicted.future
    await settle()
    assert worker.batches == [["x"]]
    worker.answer()
    assert (await explained.future).body == b"x"
    await model.stop()


@pytest.mark.usefixtures("instantly")
async def test_the_death_of_a_shared_worker_ends_the_explanation_and_saves_predictions():
    model = await _started()
    (worker,) = model.workers
    (explained,) = _explain(model, "x")
    await settle()
    (predicted,) = _predict(model, "a")
    worker.die()
    with pytest.raises(WorkerDied):
        await explained.future
    await until(lambda: model.workers)
    model.workers[0].become_ready()
    await settle()
    model.workers[0].answer()
    assert (await predicted.future).body == b"a"


@pytest.mark.parametrize(
    "policy",
    [{"continuous": True, "batch_size": 4}, {"sequences": SequencePolicy(4, 4, 0.0)}],
    ids=["continuous", "stateful"],
)
async def test_models_with_an_order_of_calls_keep_one_queue(policy):
    model = await _started(explain_workers=1, **policy)
    assert model.explanation_workers == []
    _explain(model, "x")
    await settle()
    assert model.workers[0].batches == [["x"]]


_ORDERS = st.lists(
    st.sampled_from(["predict", "explain", "give way", "answer", "answer between", "die", "cancel"]),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(orders=_ORDERS, workers=st.integers(1, 3), size=st.integers(1, 3))
def test_whatever_happens_the_rules_hold_and_everybody_is_answered(orders, workers, size):
    asyncio.run(_play(orders, workers, size))


async def _play(orders, workers, size):
    model = await _started(min_workers=workers, batch_size=size)
    jobs = []
    for step, order in enumerate(orders):
        _obey(model, jobs, order, step)
        await _check(model)
    while model.waiting or _busy(model):
        for worker in _busy(model):
            worker.answer()
        await _check(model)
    for job in jobs:
        error = None if job.future.cancelled() else job.future.exception()
        assert error is None or isinstance(error, WorkerDied)
    await model.stop()


def _obey(model, jobs, order, step):
    busy = _busy(model)
    if order in ("predict", "explain"):
        jobs += (_predict if order == "predict" else _explain)(model, str(step))
    elif order == "answer" and busy:
        busy[step % len(busy)].answer()
    elif order == "give way" and busy and _explains(busy[0].inflight[0]):
        busy[0].give_way()
    elif order == "answer between" and busy and len(busy[0].inflight) > 1 and busy[0].inflight[0].gives_way:
        busy[0].answer_between()
    elif order == "die" and busy:
        busy[step % len(busy)].die()
    elif order == "cancel" and jobs:
        model.cancel(jobs[step % len(jobs)])


def _explains(batch):
    return batch.jobs[0].request.verb is Verb.EXPLAIN


def _busy(model):
    return [worker for worker in model.workers if worker.inflight]


async def _check(model):
    await settle()
    await asyncio.sleep(0.002)
    for worker in model.workers:
        if not worker.alive:
            worker.become_ready()
    await settle()
    explaining = 0
    for worker in model.workers:
        explains = [_explains(batch) for batch in worker.inflight]
        assert not any(explains[1:])
        assert explains[:1] != [True] or len(explains) == 1 or worker.inflight[0].gives_way
        explaining += any(explains)
    assert explaining <= max(1, model.policy.min_workers - 1), "fewer may be left once some have died"


# workers that only explain


async def test_own_workers_take_whole_batches_and_leave_the_others_alone():
    model = await _started(explain_workers=1, batch_size=2)
    (predicting,), (explaining,) = model.workers, model.explanation_workers
    _explain(model, "x", "y", "z")
    _predict(model, "a")
    await settle()
    assert explaining.batches == [["x", "y"]]
    assert predicting.batches == [["a"]]
    assert model.running == 3


async def test_own_workers_start_after_the_first_and_give_way():
    model = ServedModel(archive(), ServingPolicy(explain_workers=2, gpu_ids=(0,)), WorkerOptions())
    await model.start()
    await settle()
    assert model.explanation_workers == []
    (job,) = _explain(model, "x")
    model.workers[0].become_ready()
    await settle()
    assert [worker.load.niceness for worker in model.explanation_workers] == [10, 10]
    assert model.explanation_workers[0].load.gpu_id == 0
    assert model.workers[0].load.niceness == 0
    model.explanation_workers[0].become_ready()
    await settle()
    model.explanation_workers[0].answer()
    assert (await job.future).body == b"x"


async def test_own_workers_stay_off_the_gpu_if_told():
    model = await _started(explain_workers=1, explain_on_cpu=True, gpu_ids=(0,))
    assert model.explanation_workers[0].load.gpu_id is None
    assert model.workers[0].load.gpu_id == 0


@pytest.mark.usefixtures("instantly")
async def test_the_death_of_an_own_worker_touches_no_prediction():
    model = await _started(explain_workers=1)
    (job,) = _explain(model, "x")
    await settle()
    model.explanation_workers[0].die()
    with pytest.raises(WorkerDied):
        await job.future
    assert (model.state, model.healthy) == (ModelState.READY, True)
    await until(lambda: model.explanation_workers)
    (again,) = _explain(model, "y")
    model.explanation_workers[0].become_ready()
    await settle()
    model.explanation_workers[0].answer()
    assert (await again.future).body == b"y"


async def test_an_own_worker_that_takes_too_long_is_a_time_out():
    model = await _started(explain_workers=1, explain_timeout=2.0)
    (job,) = _explain(model, "x")
    await settle()
    model.explanation_workers[0].die(timed_out=True)
    with pytest.raises(ResponseTimeout, match="within 2 s"):
        await job.future


@pytest.mark.usefixtures("instantly")
async def test_own_workers_that_never_load_cost_explanations_only():
    model = await _started(ready=False, explain_workers=1, max_retry_timeout=0.0)
    (job,) = _explain(model, "x")
    await asyncio.sleep(0.01)
    model.explanation_workers[0].fail_to_load("no memory")
    with pytest.raises(ModelNotReady, match="no worker left that explains"):
        await job.future
    with pytest.raises(ModelNotReady, match="cannot explain: no memory"):
        _explain(model, "y")
    assert (model.state, model.healthy, model.failure) == (ModelState.READY, True, "")
    (predicted,) = _predict(model, "a")
    await settle()
    model.workers[0].answer()
    assert (await predicted.future).body == b"a"


async def test_stopping_waits_for_explanations():
    model = await _started(explain_workers=1)
    (worker,) = model.explanation_workers
    running, waiting = _explain(model, "x", "y")
    await settle()
    stopping = asyncio.ensure_future(model.stop())
    await settle()
    assert not worker.stopped
    worker.answer()
    await settle()
    worker.answer()
    await stopping
    assert worker.stopped
    assert ((await running.future).body, (await waiting.future).body) == (b"x", b"y")


# the section of model-config.yaml


def test_what_the_front_end_reads():
    section = {"workers": 1, "queue_size": 3, "timeout": 2.5, "device": "cpu", "method": "saliency"}
    assert read_serving_keys(section) == {"workers": 1, "queue_size": 3, "timeout": 2.5, "device": "cpu"}
    assert read_serving_keys(None) == read_serving_keys("nonsense") == {}


@pytest.mark.parametrize(
    "section", [{"workers": -1}, {"workers": True}, {"queue_size": 1.5}, {"timeout": "1"}, {"device": "tpu"}]
)
def test_values_that_cannot_be_used_are_named(section):
    with pytest.raises(ValueError, match=f"explain.{next(iter(section))} must be"):
        read_serving_keys(section)


def test_no_number_of_explanations_may_be_negative():
    for name in ("explain_workers", "explain_queue_size", "explain_timeout"):
        with pytest.raises(ValueError, match=name):
            dataclasses.replace(ServingPolicy(), **{name: -1})
