"""The rules for named inputs: what is cast, what is refused, what is a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from predictor.errors import InvalidInput
from predictor.handlers.inputs import (
    check_names,
    check_shape,
    from_base64,
    numbers,
    one_or_batch,
    split_examples,
)
from predictor.ipc.messages import TensorSpec


def _spec(name="x", dtype="float32", shape=(), kind="tensor"):
    return TensorSpec(name, dtype, shape, kind)


# rule 1: numbers


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float32", 1, 1.0),
        ("float32", [1, 2.5], [1.0, 2.5]),
        ("float64", 0.1, 0.1),
        ("int64", 2.0, 2),
        ("int8", -128, -128),
        ("uint8", [0, 255], [0, 255]),
        ("bool", True, True),
        ("bool", [[True], [False]], [[True], [False]]),
        ("float16", 65504, 65504.0),
        ("int64", 2**63 - 1, 2**63 - 1),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("float32", float("nan"), float("nan")),
        ("float32", float("inf"), float("inf")),
        ("float32", [], []),
    ],
)
def test_values_that_fit(dtype, value, expected):
    array = numbers(_spec(dtype=dtype), value)
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int64", 1.5),
        ("int64", float("nan")),
        ("int64", float("inf")),
        ("int64", 2**63),
        ("int64", float(2**63)),
        ("int64", [1, 2**80]),
        ("int8", 128),
        ("int8", -129.0),
        ("uint8", -1),
        ("uint8", 256),
        ("uint64", float(2**64)),
        ("float32", 1e300),
        ("float32", True),
        ("float32", [1.0, True]),
        ("int64", [1, True]),
        ("int64", [[1], [True]]),
        ("bool", 1),
        ("bool", [True, 1]),
        ("float32", "1"),
        ("float32", ["1"]),
        ("float32", [1, "a"]),
        ("float32", None),
        ("float32", [None]),
        ("float32", [1, None]),
        ("float32", {"a": 1}),
        ("float32", [{"a": 1}]),
        ("float32", b"1"),
        ("float32", [[1], [1, 2]]),
        ("float32", [1, [2]]),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(dtype, value):
    with pytest.raises(InvalidInput, match="'x'"):
        numbers(_spec(dtype=dtype, shape=(2,)), value)


def test_the_message_says_what_was_expected():
    with pytest.raises(InvalidInput, match="Invalid input type for 'ids': expected array"):
        numbers(_spec("ids", shape=(4,)), "text")
    with pytest.raises(InvalidInput, match="Invalid input type for 'ids': expected number"):
        numbers(_spec("ids"), "text")


@pytest.mark.parametrize("value", ["text", 5, True, None, {"a": 1}])
def test_what_is_no_array_is_told_by_its_type_not_by_a_shape(value):
    with pytest.raises(InvalidInput, match="Invalid input type for 'ids': expected array"):
        one_or_batch(_spec("ids", shape=(4,)), value)


def test_a_list_too_deep_for_an_array():
    value = 1
    for _ in range(100):
        value = [value]
    with pytest.raises(InvalidInput):
        numbers(_spec(), value)


@given(
    st.sampled_from(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]),
    st.integers(-(2**65), 2**65) | st.floats(),
)
def test_an_integer_is_exact_or_refused(dtype, value):
    limits = np.iinfo(dtype)
    fits = not isinstance(value, float) or (math.isfinite(value) and value == int(value))
    if fits and limits.min <= int(value) <= limits.max:
        assert int(numbers(_spec(dtype=dtype), value)) == int(value)
    else:
        with pytest.raises(InvalidInput):
            numbers(_spec(dtype=dtype), value)


@given(npst.arrays(np.float32, npst.array_shapes(max_dims=3, max_side=4), elements=st.floats(width=32)))
def test_floats_survive_the_way_through_lists(array):
    np.testing.assert_array_equal(numbers(_spec(shape=array.shape), array.tolist()), array)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=8,
    ),
    st.sampled_from(["float32", "float16", "int64", "uint8", "bool"]),
)
def test_nothing_but_an_array_or_a_refusal_comes_out(value, dtype):
    try:
        array = numbers(_spec(dtype=dtype), value)
    except InvalidInput:
        return
    assert array.dtype == np.dtype(dtype)


# rule 2: one example or a batch


@pytest.mark.parametrize(
    ("spec", "value", "single"),
    [
        (_spec(), 1, True),
        (_spec(), [1], False),
        (_spec(shape=(2,)), [1, 2], True),
        (_spec(shape=(2,)), [[1, 2]], False),
        (_spec(shape=(-1,)), [], True),
        (_spec(shape=(1, 28, 28), kind="image"), "base64", True),
        (_spec(shape=(1, 28, 28), kind="image"), b"png", True),
        (_spec(shape=(1, 28, 28), kind="image"), ["base64"], False),
        (_spec(shape=(1, 1, 1), kind="image"), [[[0.5]]], True),
        (_spec(shape=(1, 1, 1), kind="image"), [[[[0.5]]]], False),
        (_spec(kind="text"), "a", True),
        (_spec(kind="text"), ["a"], False),
        (_spec(shape=(2,)), np.zeros(2), True),
        (_spec(shape=(2,)), np.zeros((3, 2)), False),
    ],
)
def test_the_rank_tells_one_from_many(spec, value, single):
    assert one_or_batch(spec, value) is single


@pytest.mark.parametrize("value", [5, None, {"a": 1}, True])
def test_text_that_is_none(value):
    with pytest.raises(InvalidInput, match="Invalid input type for 'x': expected string"):
        one_or_batch(_spec(kind="text"), value)


def test_a_rank_that_fits_neither():
    with pytest.raises(InvalidInput, match=r"Invalid shape for 'x': expected \[-1, 4\], got \[1, 1, 4\]"):
        one_or_batch(_spec(shape=(4,)), [[[1, 2, 3, 4]]])


def test_shapes():
    check_shape(_spec(shape=(-1, 2)), np.zeros((5, 2)))
    with pytest.raises(InvalidInput, match=r"Invalid shape for 'x': expected \[-1, 4\], got \[1, 3\]"):
        check_shape(_spec(shape=(4,)), np.zeros(3))
    with pytest.raises(InvalidInput):
        check_shape(_spec(shape=(4,)), np.zeros((1, 4)))


_TWO = (_spec("a", shape=(2,)), _spec("b"))


def test_one_example():
    assert split_examples(_TWO, {"a": [1, 2], "b": 3}) == ([{"a": [1, 2], "b": 3}], True)


def test_a_batch():
    rows, single = split_examples(_TWO, {"a": [[1, 2], [3, 4]], "b": [5, 6]})
    assert rows == [{"a": [1, 2], "b": 5}, {"a": [3, 4], "b": 6}]
    assert not single


def test_a_batch_of_one_stays_a_batch():
    assert split_examples(_TWO, {"a": [[1, 2]], "b": [5]}) == ([{"a": [1, 2], "b": 5}], False)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"a": [1, 2]}, "Missing required input: 'b'"),
        ({}, "Missing required input: 'a'"),
        ({"a": [1, 2], "b": 1, "y": 2}, "Unknown input: 'y'. Expected: a, b"),
        ({"a": [1, 2], "b": [1]}, "Input 'b' must have a batch axis like the others"),
        ({"a": [[1, 2]], "b": 1}, "Input 'b' must have a batch axis like the others"),
        ({"a": [[1, 2]], "b": [1, 2]}, "Input 'b' has 2 rows, 'a' has 1"),
    ],
)
def test_examples_that_do_not_fit_together(document, message):
    with pytest.raises(InvalidInput, match=message):
        split_examples(_TWO, document)


def test_an_empty_batch():
    with pytest.raises(InvalidInput, match="'b' is empty"):
        split_examples((_spec("b"),), {"b": []})


@given(st.integers(1, 5), st.integers(0, 2))
def test_a_batch_splits_into_its_rows(size, rank):
    shape = (2,) * rank
    batch = np.arange(size * 2**rank).reshape((size, *shape)).tolist()
    rows, single = split_examples((_spec(shape=shape),), {"x": batch})
    assert not single
    assert [row["x"] for row in rows] == batch


# names and base64


def test_names():
    check_names(_TWO, {"a": 1, "b": 2})
    with pytest.raises(InvalidInput, match="Missing"):
        check_names(_TWO, {"y": 1})


@pytest.mark.parametrize("text", ["QUI=", "data:image/png;base64,QUI="])
def test_base64(text):
    assert from_base64(_spec(), text) == b"AB"


@pytest.mark.parametrize("text", ["?", "QUI", "\u00e9", "\ud800", "data:image/png;base64,?", "Q U I ="])
def test_what_is_not_base64(text):
    with pytest.raises(InvalidInput, match="'x': not base64"):
        from_base64(_spec(), text)
