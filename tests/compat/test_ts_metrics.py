from __future__ import annotations

import json
import logging
import threading

import pytest
from ts.metrics import metrics_store
from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.metrics.metric_encoder import MetricEncoder
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.metrics_store import MetricsStore

LABELS = {"ModelName": "m", "Level": "Model"}


@pytest.fixture
def metrics():
    return MetricsStore({0: "first", 1: "second"}, "m")


def entry(name, kind, unit, value, **labels):
    return {"name": name, "type": kind, "unit": unit, "dimensions": labels or LABELS, "value": value}


def test_what_handlers_add_comes_out_once(metrics):
    metrics.add_counter("calls", 1)
    metrics.add_counter("calls", 2, 0)
    metrics.add_time("wait", 5)
    metrics.add_time("wait", 7, unit="ms")
    metrics.add_size("ram", 3, unit="GB")
    metrics.add_percent("cpu", 50)
    metrics.add_error("failed", 1)
    metrics.add_metric("sizes", 1, "furlong", metric_type=MetricTypes.HISTOGRAM)
    metrics.add_metric("sizes", 4, "furlong", metric_type=MetricTypes.HISTOGRAM)
    assert metrics.drain() == [
        entry("calls", "counter", "Count", 3),
        entry("wait", "gauge", "Milliseconds", 7),
        entry("ram", "gauge", "Gigabytes", 3),
        entry("cpu", "gauge", "Percent", 50),
        entry("failed", "counter", "unit", 1, Level="Error"),
        entry("sizes", "histogram", "furlong", [1, 4]),
    ]
    assert metrics.drain() == []


def test_the_callers_labels_stay_as_they_were(metrics):
    labels = [Dimension("shard", 3)]
    metrics.add_counter("calls", 1, None, labels)
    metrics.add_counter("calls", 1, None, labels)
    assert len(labels) == 1
    (drained,) = metrics.drain()
    assert drained["dimensions"] == {"shard": "3", **LABELS}
    assert drained["value"] == 2


def test_own_metrics(metrics):
    own = metrics.add_metric_to_cache("own", "count", ["color"], MetricTypes.COUNTER)
    own.add_or_update(2, ["red"])
    metrics.get_metric("own").add_or_update(3, ["blue"])
    assert [(each["dimensions"], each["value"]) for each in metrics.drain()] == [
        ({"color": "red"}, 2),
        ({"color": "blue"}, 3),
    ]
    assert metrics.cache_keys() == ["counter:own"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda m: m.add_time("t", 1, unit="h"), ValueError),
        (lambda m: m.add_size("s", 1, unit="TB"), ValueError),
        (lambda m: m.get_metric("none"), KeyError),
        (lambda m: m.get_metric("none", "counter"), TypeError),
        (lambda m: m.add_metric_to_cache(1, "ms"), TypeError),
        (lambda m: m.add_metric_to_cache("a", "ms", "label"), TypeError),
        (lambda m: m.add_error("e", "no number"), TypeError),
    ],
)
def test_wrong_use_raises_into_the_handler(metrics, call, error):
    with pytest.raises(error):
        call(metrics)
    assert metrics.drain() == []


def test_wrong_values_are_dropped_and_logged(metrics, caplog):
    metrics.add_counter("calls", -1)
    metrics.add_metric_to_cache("own", "count", ["color"]).add_or_update(1, [])
    assert metrics.drain() == []
    assert "calls" in caplog.text
    assert "own" in caplog.text


def test_the_log_line_is_torchserves(metrics, caplog):
    with caplog.at_level(logging.INFO, "ts.metrics.caching_metric.values"):
        metrics.add_counter("calls", 1, 1, [Dimension("a", "b")])
    head, tail = caplog.messages[0].split("hostname:")
    assert head == "calls.Count:1|#a:b,ModelName:m,Level:Model|#"
    assert ",requestID:second,timestamp:" in tail


def test_labels_without_end_do_not_fill_the_memory(metrics, caplog, monkeypatch):
    monkeypatch.setattr(metrics_store, "MAX_SERIES", 3)
    monkeypatch.setattr(metrics_store, "MAX_OBSERVATIONS", 2)
    for number in range(5):
        metrics.add_counter("calls", 1, dimensions=[Dimension("request", number)])
    assert len(metrics.drain()) == 3
    assert "2 metric values were dropped" in caplog.text
    for number in range(5):
        metrics.add_metric("h", number, "ms", metric_type=MetricTypes.HISTOGRAM)
    assert metrics.drain()[0]["value"] == [0, 1]


def test_threads_may_count_together(metrics):
    def count():
        for _ in range(500):
            metrics.add_counter("calls", 1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert metrics.drain()[0]["value"] == 2000


def test_metrics_from_a_file(tmp_path):
    path = tmp_path / "metrics.yaml"
    path.write_text(
        "model_metrics:\n  gauge:\n    - {name: HandlerTime, unit: ms, dimensions: [ModelName, Level]}\n"
    )
    metrics = MetricsCacheYamlImpl(str(path))
    metrics.initialize_cache()
    assert metrics.cache_keys() == ["gauge:HandlerTime"]
    assert metrics.get_metric("HandlerTime", MetricTypes.GAUGE).unit == "Milliseconds"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("other: 1", KeyError),
        ("model_metrics:", ValueError),
        ("model_metrics: {speed: [{name: a, unit: b, dimensions: []}]}", KeyError),
        ("model_metrics: {gauge: [{name: a}]}", KeyError),
    ],
)
def test_broken_metric_files(tmp_path, text, error):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(error):
        MetricsCacheYamlImpl(str(tmp_path / "m.yaml")).initialize_cache()


def test_unreadable_metric_files(tmp_path):
    (tmp_path / "m.yaml").write_text("a: [")
    for path, text in (
        (str(tmp_path / "m.yaml"), "parsing"),
        (str(tmp_path / "none"), "reading"),
        ("", "Config"),
    ):
        with pytest.raises(Exception, match=text):
            MetricsCacheYamlImpl(path)


def test_metric_objects():
    metric = Metric("n", 1, "ms", [Dimension("a", "b")], "rid")
    assert str(metric).startswith("n.Milliseconds:1|#a:b|#hostname:")
    assert str(metric).endswith(",rid")
    decoded = json.loads(json.dumps([metric], cls=MetricEncoder))
    assert decoded[0]["MetricName"] == "n"
    assert decoded[0]["Dimensions"] == [{"Name": "a", "Value": "b"}]


def test_process_memory():
    import os

    from ts.metrics.process_memory_metric import get_cpu_usage

    assert get_cpu_usage(os.getpid()) > 1 << 20
    assert get_cpu_usage(2**22 + 1) == 0
