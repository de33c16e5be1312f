"""The text format, read back with prometheus_client's own parser."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from predictor.telemetry.exposition import render
from predictor.telemetry.families import Family, Kind

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def _read(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


@given(st.dictionaries(st.tuples(texts, texts), st.floats(), max_size=5), texts)
def test_any_label_value_and_any_number_come_back(values, text):
    family = Family("predictor_x", Kind.GAUGE, text, ("a", "b"))
    for labels, value in values.items():
        family.set(value, *labels)
    found = _read(render([family]))
    if not values:
        assert found == {}
        return
    samples = {
        (sample.labels["a"], sample.labels["b"]): sample.value for sample in found["predictor_x"].samples
    }
    assert samples.keys() == values.keys()
    for labels, value in values.items():
        assert samples[labels] == value or (math.isnan(value) and math.isnan(samples[labels]))


@given(st.lists(st.floats(0, 1000), max_size=30))
def test_histograms_come_back(values):
    family = Family("predictor_x_seconds", Kind.HISTOGRAM, "help", ("m",))
    for value in values:
        family.histogram("one", bounds=(0.5, 5.0)).observe(value)
    found = _read(render([family]))
    if not values:
        assert found == {}
        return
    samples = {
        (sample.name, sample.labels.get("le")): sample.value
        for sample in found["predictor_x_seconds"].samples
    }
    assert samples["predictor_x_seconds_bucket", "0.5"] == sum(value <= 0.5 for value in values)
    assert samples["predictor_x_seconds_bucket", "5.0"] == sum(value <= 5 for value in values)
    assert samples["predictor_x_seconds_bucket", "+Inf"] == len(values)
    assert samples["predictor_x_seconds_count", None] == len(values)


def test_torchserves_families_end_their_labels_with_a_comma():
    family = Family("Requests2XX", Kind.COUNTER, "help", ("Level", "Hostname"), {}, True)
    family.value("Host", "vm").value += 1
    assert render([family]) == (
        '# HELP Requests2XX help\n# TYPE Requests2XX counter\nRequests2XX{Level="Host",Hostname="vm",} 1.0\n'
    )


def test_a_series_without_labels_has_no_braces():
    family = Family("predictor_ready", Kind.GAUGE, "help")
    family.set(True)
    assert render([family]).splitlines()[-1] == "predictor_ready 1.0"


def test_names_choose_families_or_single_samples():
    gauge = Family("g", Kind.GAUGE, "help")
    gauge.set(1)
    histogram = Family("h", Kind.HISTOGRAM, "help")
    histogram.histogram(bounds=(1.0,)).observe(3)
    families = [gauge, histogram]
    assert "h" not in _read(render(families, {"g"}))
    assert [sample.name for sample in _read(render(families, {"h"}))["h"].samples] == [
        "h_bucket",
        "h_bucket",
        "h_count",
        "h_sum",
    ]
    assert render(families, {"h_count"}).splitlines()[2:] == ["h_count 1.0"]
    assert render(families, {"nope"}) == ""


def test_a_lone_surrogate_does_not_stop_the_answer():
    family = Family("g", Kind.GAUGE, "help", ("a",))
    family.set(1, "\udc80")
    assert render([family]).encode() == b'# HELP g help\n# TYPE g gauge\ng{a="?"} 1.0\n'


def test_a_label_that_a_handlers_metric_lacks_is_left_out():
    family = Family("seen", Kind.COUNTER, "help", ("a", "b"), {}, True)
    family.value("x", "").value += 1
    assert render([family]).splitlines()[-1] == 'seen{a="x",} 1.0'
