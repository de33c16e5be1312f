"""What batches and handlers are measured by."""

from __future__ import annotations

import asyncio
import time

import pytest
from serving_fakes import request

from predictor.ipc.messages import InferenceResult, Measured, Results, Timing, Verb
from predictor.serving import meter as module
from predictor.serving.batch import SentBatch
from predictor.serving.job import Job
from predictor.serving.meter import ModelMeter
from predictor.telemetry.families import Kind
from predictor.telemetry.record import CURRENT, RequestRecord


def _batch(ages, verb=Verb.PREDICT):
    """Return a batch of jobs that were submitted so many seconds ago, taken now."""
    loop = asyncio.new_event_loop()
    jobs = [Job(request(str(age), verb), loop) for age in ages]
    loop.close()
    batch = SentBatch(0, jobs, 60.0)
    for job, age in zip(jobs, ages, strict=True):
        job.submitted = batch.taken_at - age
    return batch


def _results(batch, started, *, skipped=()):
    results = [None if position in skipped else InferenceResult() for position in range(len(batch.jobs))]
    return Results(0, results, Timing(started, 0.25, 0.5, 0.125))


def _sums(meter, verb=Verb.PREDICT):
    stages = meter.verbs[verb].stages
    return {stage: (series.count, series.sum) for stage, series in stages.items()}


def test_each_request_of_a_batch_counts_in_every_stage():
    meter = ModelMeter("m")
    batch = _batch([1.0, 3.0])
    meter.answered(batch, _results(batch, batch.taken_at + 0.5))
    sums = _sums(meter)
    assert sums["queue"] == (2, pytest.approx(1.5 + 3.5))
    assert sums["batch_wait"] == (2, 0)
    assert sums["decode"] == (2, 0.5)
    assert sums["inference"] == (2, 1.0)
    assert sums["encode"] == (2, 0.25)
    assert meter.verbs[Verb.PREDICT].batch_sizes.sum == 2
    assert meter.last["HandlerTime"] == 500
    assert meter.last["PredictionTime"] == 875
    assert meter.last["QueueTime"] == pytest.approx(2500)


def test_waiting_for_the_batch_is_told_from_waiting_for_a_worker():
    meter = ModelMeter("m")
    batch = _batch([5.0, 1.0])
    batch.filling_since = batch.taken_at - 2.0
    meter.answered(batch, _results(batch, batch.taken_at))
    sums = _sums(meter)
    assert sums["batch_wait"] == (2, pytest.approx(2.0 + 1.0))
    assert sums["queue"] == (2, pytest.approx(3.0))


def test_a_skipped_request_is_not_measured_but_was_in_the_batch():
    meter = ModelMeter("m")
    batch = _batch([1.0, 1.0, 1.0])
    meter.answered(batch, _results(batch, batch.taken_at, skipped=(1,)))
    assert _sums(meter)["inference"][0] == 2
    assert meter.verbs[Verb.PREDICT].batch_sizes.sum == 3


def test_a_batch_that_was_skipped_altogether_is_nothing():
    meter = ModelMeter("m")
    batch = _batch([1.0])
    meter.answered(batch, Results(0, [None]))
    assert not meter.verbs
    assert not meter.last


def test_verbs_are_apart():
    meter = ModelMeter("m")
    for verb in (Verb.PREDICT, Verb.EXPLAIN):
        batch = _batch([1.0], verb)
        meter.answered(batch, _results(batch, batch.taken_at))
    assert [_sums(meter, verb)["queue"][0] for verb in (Verb.PREDICT, Verb.EXPLAIN)] == [1, 1]


def test_the_requests_record_learns_how_long_it_waited():
    record = RequestRecord("v1")
    token = CURRENT.set(record)
    batch = _batch([2.0])
    CURRENT.reset(token)
    ModelMeter("m").answered(batch, _results(batch, batch.taken_at))
    assert record.queued == pytest.approx(2.0)


def test_a_clock_that_seems_to_run_backwards_makes_no_negative_time():
    meter = ModelMeter("m")
    batch = _batch([0.0])
    meter.answered(batch, _results(batch, time.monotonic() - 100))
    assert _sums(meter)["queue"] == (1, 0)


def _measured(name="seen", kind="counter", values=(1.0,), **labels):
    return Measured(name, kind, "Count", list(labels.items()), list(values))


def _report(meter, *measured):
    meter.answered(_batch([]), Results(0, [], None, list(measured)))


def test_what_handlers_report_is_added_replaced_or_observed():
    meter = ModelMeter("m")
    _report(meter, _measured(a="1"), _measured(a="1", values=(2.0,)), _measured(a="2"))
    _report(meter, _measured("g", "gauge", (5.0,)), _measured("g", "gauge", (4.0,)))
    _report(meter, _measured("h", "histogram", (0.1, 2.0)))
    found = {(kind, name, labels): series for (kind, name, labels), series in meter.reported.items()}
    assert found[Kind.COUNTER, "seen", (("a", "1"),)].value == 3
    assert found[Kind.COUNTER, "seen", (("a", "2"),)].value == 1
    assert found[Kind.GAUGE, "g", ()].value == 4
    assert found[Kind.HISTOGRAM, "h", ()].count == 2


@pytest.mark.parametrize(
    ("name", "made"), [("my metric", "my_metric"), ("1st", "_1st"), ("", "_"), ("a.b-c", "a_b_c"), ("é", "_")]
)
def test_names_become_names_that_prometheus_takes(name, made):
    meter = ModelMeter("m")
    _report(meter, _measured(name))
    assert [key[1] for key in meter.reported] == [made]


def test_labels_of_prometheus_itself_get_another_name():
    meter = ModelMeter("m")
    _report(meter, _measured(le="1", __name__="x", quantile="0.5", ok="y"))
    ((_, _, labels),) = meter.reported
    assert [name for name, _ in labels] == ["exported_le", "exported___name__", "exported_quantile", "ok"]


def test_series_without_end_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(module, "MAX_REPORTED", 3)
    meter = ModelMeter("m")
    _report(meter, *(_measured(request=str(number)) for number in range(5)))
    _report(meter, _measured(request="0"))
    assert len(meter.reported) == 3
    assert meter.dropped == 2
    assert next(iter(meter.reported.values())).value == 2


def test_a_replaced_model_goes_on_counting():
    old, new = ModelMeter("m"), ModelMeter("m")
    for meter in (old, new):
        batch = _batch([1.0])
        meter.answered(batch, _results(batch, batch.taken_at))
        new.go_on_from(old)
    assert _sums(new)["queue"][0] == 2
