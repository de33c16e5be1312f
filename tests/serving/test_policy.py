from __future__ import annotations

import pytest

from predictor.serving.policy import ServingPolicy


def test_the_defaults_are_allowed():
    assert ServingPolicy().batch_size == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("queue_size", 0),
        ("min_workers", -1),
        ("max_batch_delay", -0.1),
        ("client_timeout", -1.0),
        ("prefetch", -1),
        ("threads", -1),
    ],
)
def test_numbers_that_no_server_can_keep_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        ServingPolicy(**{field: value})


def test_more_workers_wanted_than_allowed():
    with pytest.raises(ValueError, match=r"max_workers \(2\) is below min_workers \(3\)"):
        ServingPolicy(min_workers=3, max_workers=2)


def test_no_worker_at_all_is_allowed():
    assert ServingPolicy(min_workers=0, max_workers=0).min_workers == 0
