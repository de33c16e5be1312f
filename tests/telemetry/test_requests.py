"""Counting requests, and forgetting the models that are gone."""

from __future__ import annotations

import logging

import pytest

from predictor.telemetry import requests as module
from predictor.telemetry.families import by_name
from predictor.telemetry.record import RequestRecord
from predictor.telemetry.requests import RequestMeter
from predictor.telemetry.torchserve import HOSTNAME, MetricLog


def _record(model="", version="", verb="", asked=None, protocol="v1"):
    record = RequestRecord(protocol)
    if model:
        record.found(model, version, asked)
    record.verb = verb
    return record


def _values(families):
    return {
        (name, *labels): series.value
        for name, family in by_name(families).items()
        for labels, series in family.series.items()
        if hasattr(series, "value")
    }


def test_each_request_counts_once_under_its_labels():
    meter = RequestMeter()
    for _ in range(3):
        meter.finished(_record("m", "1.0", "predict"), "200", 200)
    meter.finished(_record("m", "1.0", "predict"), "503", 503)
    meter.finished(_record(), "404", 404)
    values = _values(meter.families())
    assert values["predictor_requests_total", "v1", "m", "1.0", "predict", "200"] == 3
    assert values["predictor_requests_total", "v1", "m", "1.0", "predict", "503"] == 1
    assert values["predictor_requests_total", "v1", "", "", "", "404"] == 1
    seconds = by_name(meter.families())["predictor_request_duration_seconds"]
    assert seconds.series["v1", "m", "1.0", "predict"].count == 4


def test_torchserves_names_count_inferences_by_the_version_that_was_asked_for():
    meter = RequestMeter()
    first = _record("m", "2.0", "predict")
    first.queued = 0.5
    first.started -= 2
    meter.finished(first, "200", 200)
    meter.finished(_record("m", "1.0", "explain", asked="1.0"), "OK", 200)
    meter.finished(_record("m", "1.0"), "200", 200)
    values = _values(meter.torchserve_families())
    assert values["ts_inference_requests_total", "m", "default", HOSTNAME] == 1
    assert values["ts_inference_requests_total", "m", "1.0", HOSTNAME] == 1
    assert values["ts_queue_latency_microseconds", "m", "default", HOSTNAME] == 5e5
    assert 2e6 <= values["ts_inference_latency_microseconds", "m", "default", HOSTNAME] < 60e6
    assert values["Requests2XX", "Host", HOSTNAME] == 3


@pytest.mark.parametrize(
    ("status", "name"), [(200, "2XX"), (204, "2XX"), (404, "4XX"), (499, "4XX"), (507, "5XX")]
)
def test_classes(status, name):
    meter = RequestMeter()
    meter.finished(_record(), str(status), status)
    counted = {key[0] for key, value in _values(meter.torchserve_families()).items() if value}
    assert counted == {f"Requests{name}"}


def test_classes_are_there_before_the_first_request():
    values = _values(RequestMeter().torchserve_families())
    assert values == {(f"Requests{digit}XX", "Host", HOSTNAME): 0 for digit in (2, 4, 5)}


def test_the_legacy_mode_tells_of_inferences_only():
    names = {family.name for family in RequestMeter().torchserve_families(inferences_only=True)}
    assert names == {
        "ts_inference_requests_total",
        "ts_inference_latency_microseconds",
        "ts_queue_latency_microseconds",
    }


def test_a_model_that_is_gone_is_forgotten_after_a_while(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    meter = RequestMeter()
    for model in ("old", "m"):
        meter.finished(_record(model, "1.0", "predict"), "200", 200)
    meter.forget(["m"])
    now[0] += 299
    meter.forget(["m"])
    assert ("predictor_requests_total", "v1", "old", "1.0", "predict", "200") in _values(meter.families())
    now[0] += 2
    meter.forget(["m"])
    everything = _values(meter.families() + meter.torchserve_families())
    assert not [key for key in everything if "old" in key]
    assert ("predictor_requests_total", "v1", "m", "1.0", "predict", "200") in everything
    meter.finished(_record("old", "1.0", "predict"), "200", 200)
    assert _values(meter.families())["predictor_requests_total", "v1", "old", "1.0", "predict", "200"] == 1


def test_a_model_that_comes_back_in_time_goes_on(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    meter = RequestMeter()
    meter.finished(_record("m", "1.0", "predict"), "200", 200)
    meter.forget([])
    now[0] += 200
    meter.forget(["m"])
    now[0] += 200
    meter.forget([])
    assert _values(meter.families())["predictor_requests_total", "v1", "m", "1.0", "predict", "200"] == 1


def test_the_log_gets_torchserves_lines(caplog):
    meter = RequestMeter(MetricLog())
    with caplog.at_level(logging.INFO):
        meter.finished(_record("m", "1.0", "predict"), "200", 200)
    lines = caplog.messages
    assert lines[0].startswith(f"Requests2XX.Count:1.0|#Level:Host|#hostname:{HOSTNAME},timestamp:")
    assert lines[1].startswith("ts_inference_requests_total.Count:1.0|#model_name:m,model_version:default|#")
    assert [line.partition(".")[0] for line in lines[2:]] == [
        "ts_inference_latency_microseconds",
        "ts_queue_latency_microseconds",
    ]
