"""From two looks at a server to rates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from top_fakes import page

from predictor.top.rates import compare
from predictor.top.snapshot import NotOurs, read_index, read_metrics


def _row(before, now):
    (row,) = compare(before, now)
    return row


def test_one_look_tells_what_is_and_the_latencies_since_the_start():
    row = _row(None, read_metrics(page(requests=10), 100))
    assert (row.model, row.version, row.now.state) == ("digits", "1.0", "ready")
    assert row.now.workers == {"busy": 1, "ready": 2}
    assert (row.now.queue, row.now.capacity, row.now.in_flight) == (50, 100, 52)
    assert row.now.memory == 300 << 20
    assert row.requests is None
    assert 0.0025 <= row.p50 <= 0.005
    assert row.batch == 4
    assert row.stages == {"queue": pytest.approx(0.001), "inference": pytest.approx(0.003)}


def test_two_looks_tell_rates():
    before = read_metrics(page(requests=100, errors=1), 100)
    row = _row(before, read_metrics(page(requests=140, errors=11), 110))
    assert row.requests == pytest.approx(5)
    assert row.errors == pytest.approx(1)


def test_latencies_are_those_of_the_interval():
    slow = read_metrics(page(requests=10, seconds=2.0), 100)
    text = page(requests=10, seconds=2.0).splitlines()
    both = read_metrics(page(requests=20, seconds=2.0), 110)
    assert 1 <= _row(slow, both).p99 <= 2.5
    assert text
    idle = _row(both, read_metrics(page(requests=20, seconds=2.0), 120))
    assert (idle.requests, idle.p50, idle.p99, idle.batch) == (0, None, None, None)


def test_a_server_that_was_restarted_begins_anew():
    before = read_metrics(page(requests=1000), 100)
    row = _row(before, read_metrics(page(requests=3), 110))
    assert row.requests is None
    assert row.p50 is not None


def test_probes_are_no_requests_of_the_model():
    assert sum(_row(None, read_metrics(page(requests=10), 1)).now.answers.values()) == 10


def test_a_model_that_is_new_or_gone():
    before = read_metrics(page(requests=5, models=("old",)), 100)
    row = _row(before, read_metrics(page(requests=5, models=("new",)), 110))
    assert (row.model, row.requests) == ("new", None)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 100))
def test_no_rate_is_negative(first, second, seconds):
    before = read_metrics(page(requests=first), 100)
    row = _row(before, read_metrics(page(requests=second), 100 + seconds))
    assert row.requests is None or row.requests >= 0
    assert row.p50 is None or row.p50 >= 0


@pytest.mark.parametrize("text", ["", "not metrics {", "# TYPE x counter\nx_total 1\n", "<html></html>"])
def test_what_is_not_ours_is_said_so(text):
    with pytest.raises(NotOurs):
        read_metrics(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    try:
        read_metrics(text)
    except NotOurs:
        return


def test_gpus():
    gpu = read_metrics(page(gpu=0.37)).gpus["0"]
    assert (gpu.name, gpu.utilization, gpu.used) == ("NVIDIA H100", 0.37, 8 << 30)


def test_the_index_tells_states_alone():
    snapshot = read_index(
        [{"name": "a", "version": "1", "state": "READY"}, {"name": "b", "state": "LOADING"}]
    )
    assert {key: model.state for key, model in snapshot.models.items()} == {
        ("a", "1"): "ready",
        ("b", ""): "loading",
    }
    assert not snapshot.ready
    assert not snapshot.complete
