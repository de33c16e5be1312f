"""Numbers in buckets, against numpy and prometheus_client."""

from __future__ import annotations

import math

import numpy as np
import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.telemetry.families import KSERVE_SECONDS, SECONDS, Family, Histogram, Kind, quantile

seconds = st.floats(0, 200, allow_nan=False)


@given(st.lists(seconds, max_size=50))
def test_a_histogram_counts_as_prometheus_client_does(values):
    ours = Histogram(SECONDS)
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("x", "x", buckets=SECONDS, registry=registry)
    for value in values:
        ours.observe(value)
        theirs.observe(value)
    samples = {
        sample.labels.get("le"): sample.value
        for sample in registry.collect().__next__().samples
        if sample.name == "x_bucket"
    }
    assert list(np.cumsum(ours.counts)) == list(samples.values())
    assert ours.count == len(values)
    assert ours.sum == pytest.approx(sum(values))


@given(st.lists(seconds, max_size=50))
def test_a_coarser_histogram_is_the_same_as_one_that_was_observed(values):
    fine, coarse, expected = Histogram(SECONDS), Histogram(KSERVE_SECONDS), Histogram(KSERVE_SECONDS)
    for value in values:
        fine.observe(value)
        expected.observe(value)
    coarse.add(fine)
    assert coarse.counts == expected.counts
    assert coarse.sum == pytest.approx(expected.sum)


def test_one_observation_may_count_for_a_whole_batch():
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.5, 16)
    assert histogram.counts == [0, 16, 0]
    assert histogram.sum == 24


def test_a_bound_belongs_to_its_own_bucket():
    histogram = Histogram((1.0, 2.0))
    histogram.observe(1.0)
    histogram.observe(math.nextafter(2.0, 3.0))
    assert histogram.counts == [1, 0, 1]


def test_buckets_of_kserve_are_among_ours():
    assert set(KSERVE_SECONDS) <= set(SECONDS)
    assert list(SECONDS) == sorted(SECONDS)


def test_quantiles_lie_within_their_bucket():
    counts = [0, 90, 10, 0]
    assert quantile((1.0, 2.0, 4.0), counts, 0.5) == pytest.approx(1 + 50 / 90)
    assert quantile((1.0, 2.0, 4.0), counts, 0.99) == pytest.approx(3.8)
    assert math.isnan(quantile((1.0,), [0, 0], 0.5))
    assert quantile((1.0,), [0, 5], 0.5) == 1.0


def test_a_family_makes_each_series_once():
    family = Family("f", Kind.COUNTER, "help", ("a",))
    family.value("x").value += 2
    family.value("x").value += 1
    family.set(7, "y")
    assert {labels: series.value for labels, series in family.series.items()} == {("x",): 3, ("y",): 7}
    histograms = Family("h", Kind.HISTOGRAM, "help", ("a",))
    assert histograms.histogram("x") is histograms.histogram("x")
