"""Handlers that fail for what is left of an input."""

from __future__ import annotations

import itertools

import pytest

from predictor.errors import InvalidInput
from predictor.explain.foreign import ForeignExplainer


def needs_pairs(rows):
    """Answer texts as a handler does whose vocabulary knows only some pairs of words."""
    known = {"wait until", "until the", "the lock", "wait the", "until lock", "wait lock"}
    answers = []
    for row in rows:
        words = row["data"].split()
        pairs = [" ".join(pair) for pair in itertools.pairwise(words)]
        unknown = [pair for pair in pairs if pair not in known]
        if unknown:
            raise KeyError(unknown[0])
        answers.append({"short": 1 / (1 + len(words)), "long": len(words) / (1 + len(words))})
    return answers


def explain(data, predict=needs_pairs):
    row = {"data": data, "explain": {"method": "feature_ablation"}}
    answer = ForeignExplainer(None, predict, {}).explain(row, "")
    if isinstance(answer, InvalidInput):
        raise answer
    return answer


def test_a_variant_that_the_handler_cannot_answer_is_named_with_the_reason():
    def refuses_until_alone(rows):
        if any(row["data"].split() == ["wait", "the", "lock"] for row in rows):
            raise KeyError("wait the")
        return needs_pairs(rows)

    with pytest.raises(InvalidInput) as caught:
        explain("wait until the lock", refuses_until_alone)
    assert "the variant without the words 'until'" in caught.value.message
    assert "KeyError: 'wait the'" in caught.value.message


def test_a_failure_of_a_batch_is_no_failure_of_its_rows():
    sizes = []

    def one_by_one(rows):
        sizes.append(len(rows))
        if len(rows) > 1:
            raise ValueError("one at a time")
        return needs_pairs(rows)

    answer = explain("wait until the lock", one_by_one)
    assert answer["inputs"][0]["words"] == ["wait", "until", "the", "lock"]
    assert max(sizes) > 1
    assert sizes.count(1) >= 4


def test_a_variant_of_numbers_is_named():
    def no_zero(rows):
        if any(row["data"] == {"a": 3.0, "b": 0.0} for row in rows):
            raise ZeroDivisionError("b")
        return [row["data"]["a"] - row["data"]["b"] for row in rows]

    with pytest.raises(InvalidInput, match=r"with a change of b \(ZeroDivisionError: b\)"):
        explain({"a": 3.0, "b": 2.0}, no_zero)
