"""TorchServe's metrics.yaml."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from predictor.telemetry.torchserve import METRICS, MetricsFileError, read_metrics_file, ts_family

GOOD = """
dimensions:
  - &model_name "ModelName"
  - &level "Level"
ts_metrics:
  counter:
    - name: Requests2XX
      unit: Count
      dimensions: [*level]
  gauge:
    - name: QueueTime
      unit: Milliseconds
      dimensions: [*level]
model_metrics:
  counter:
    - name: InferenceErrors
      unit: count
      dimensions: [*model_name, *level]
  histogram:
    - {name: Sizes, unit: MB, dimensions: [*model_name]}
"""


def _write(tmp_path, text):
    path = tmp_path / "metrics.yaml"
    path.write_text(text)
    return path


def test_the_sections_are_read(tmp_path):
    file = read_metrics_file(_write(tmp_path, GOOD))
    assert file.server == {"Requests2XX", "QueueTime"}
    assert file.model == {("counter", "InferenceErrors"), ("histogram", "Sizes")}


def test_sections_may_be_missing_or_empty(tmp_path):
    file = read_metrics_file(_write(tmp_path, "ts_metrics:\nmodel_metrics: {gauge: }\n"))
    assert (file.server, file.model) == (frozenset(), frozenset())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "expected the sections"),
        ("a: [", "cannot be read"),
        ("model_metrics: [1]", "must be made of"),
        ("model_metrics: {meter: []}", "must be made of"),
        ("model_metrics: {gauge: [{unit: ms}]}", "a gauge has no name"),
        ("model_metrics: {gauge: [1]}", "a gauge has no name"),
        ("model_metrics: {gauge: true}", "the gauges must be a list"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said):
    with pytest.raises(MetricsFileError, match=said) as caught:
        read_metrics_file(_write(tmp_path, text))
    assert "metrics.yaml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MetricsFileError, match="No such file"):
        read_metrics_file(tmp_path / "none.yaml")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["ts_metrics", "model_metrics", "dimensions"]),
        json_like | st.dictionaries(st.sampled_from(["counter", "gauge"]), json_like, max_size=2),
    )
)
def test_any_yaml_is_read_or_refused(tmp_path_factory, document):
    path = _write(tmp_path_factory.mktemp("yaml"), yaml.safe_dump(document))
    try:
        file = read_metrics_file(path)
    except MetricsFileError:
        return
    assert all(isinstance(name, str) for name in file.server)


def test_families_say_what_torchserve_says():
    family = ts_family("ts_inference_requests_total")
    assert family.help == "Torchserve prometheus counter metric with unit: Count"
    assert family.labels == ("model_name", "model_version", "hostname")
    assert ts_family("GPUUtilization").labels == ("Level", "DeviceId", "Hostname")
    assert all(metric.unit for metric in METRICS.values())
