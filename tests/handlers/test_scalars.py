"""The quick way answers what the slow one does, to the bit, or leaves the row to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from predictor.errors import PredictorError
from predictor.handlers.declaration import Signature
from predictor.handlers.scalars import stack_scalars
from predictor.handlers.signature import SignatureHandler

NAMES = ("a", "b")
_SECTION = {
    "inputs": [{"name": name} for name in NAMES],
    "outputs": [{"name": "y", "shape": [2]}],
    "pack_inputs": True,
}


class Slow(SignatureHandler):
    """Looks at rows one by one, because it might do something else with them."""

    def example(self, row):
        return super().example(row)


def _handler(cls, **section):
    handler = cls()
    handler.signature = Signature({**_SECTION, **section})
    handler.device = torch.device("cpu")
    handler.model = torch.nn.Identity()
    return handler


def _answers(handler, rows):
    return [
        answer.message if isinstance(answer, PredictorError) else np.float32(answer["y"]).tobytes()
        for answer in handler.handle(rows, None)
    ]


def test_rows_become_one_array():
    rows = [{"a": 1, "b": 2.5}, {"data": {"b": 4, "a": 3}}, {"body": bytearray(b'{"a": -0.0, "b": 0}')}]
    array = stack_scalars(NAMES, rows)
    assert array is not None
    assert array.dtype == np.float32
    assert array.tolist() == [[1, 2.5], [3, 4], [0, 0]]


@pytest.mark.parametrize(
    "row",
    [
        {"a": 1},
        {"a": 1, "b": 2, "c": 3},
        {"a": 1, "c": 2},
        {"a": True, "b": 1},
        {"a": "1", "b": 1},
        {"a": None, "b": 1},
        {"a": [1], "b": 1},
        {"a": 1e39, "b": 1},
        {"a": float("nan"), "b": 1},
        {"a": float("inf"), "b": 1},
        {"a": 2**60, "b": 1},
        {"a": 10**400, "b": 1},
        {"a": np.float64(1), "b": 1},
        {"data": [1, 2]},
        {"body": b"{}"},
        {"body": b'{"a": 1, "b": '},
        {"body": "[" * 100_000},
        {"b": 1, "data": {"a": 1, "b": 2}},
        {},
    ],
    ids=lambda row: str(row)[:40],
)
def test_anything_else_is_left_to_the_slow_way(row):
    assert stack_scalars(NAMES, [{"a": 1, "b": 2}, row]) is None


_VALUES = (
    st.floats(width=32)
    | st.floats()
    | st.integers(-(2**70), 2**70)
    | st.booleans()
    | st.none()
    | st.text(max_size=2)
)
_TEXTS = st.sampled_from(['{"a": 1, "b": 2}', ' {"b": 0.5, "a": NaN}', "[1, 2]", "{", '{"a": true, "b": 1}'])
_WHOLE = (
    st.just({"a": 1, "b": 2}) | _TEXTS | _TEXTS.map(str.encode) | _TEXTS.map(lambda t: bytearray(t, "ascii"))
)
_ROWS = st.dictionaries(st.sampled_from(["a", "b", "c", "data", "body"]), _VALUES | _WHOLE, max_size=3)


@given(st.lists(st.fixed_dictionaries({"a": _VALUES, "b": _VALUES}) | _ROWS, min_size=1, max_size=4))
def test_both_ways_answer_the_same(rows):
    assert _answers(_handler(SignatureHandler), rows) == _answers(_handler(Slow), rows)


def test_only_where_all_inputs_are_float32_numbers_for_one_tensor():
    assert Signature(_SECTION).plain_names == NAMES
    assert Signature({**_SECTION, "pack_inputs": False}).plain_names == ()
    mixed = [{"name": "a"}, {"name": "b", "dtype": "int64"}]
    assert Signature({**_SECTION, "inputs": mixed}).plain_names == ()
