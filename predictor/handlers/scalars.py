"""The quick way for rows of plain numbers: all of a batch in one array, instead of one at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from predictor.handlers.tensors import Array

# Whole numbers up to here are the same as floating point numbers.
_EXACT = 2.0**53
_PLAIN = {float, int}
# `curl -d` calls JSON a form, and then it comes as bytes.
_TEXT = {bytes, bytearray, str}


def stack_scalars(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Array | None:
    """Return the values of `names` in all rows as float32 [rows, names], None if a row is not so simple.

    Then its rows have to be looked at one by one, which also finds out what to tell whom. Simple is a dict
    of exactly these names, or one that has such a dict, or the JSON text of one, as `data` or `body`, with
    floats and whole numbers in float32's range.
    """
    values: list[float] = []
    known = frozenset(names)
    for row in rows:
        inputs: Any = row.get("data", row.get("body")) if known.isdisjoint(row) else row
        if type(inputs) in _TEXT:
            inputs = _parsed(inputs)
        if type(inputs) is not dict or len(inputs) != len(names):
            return None
        try:
            values += [inputs[name] for name in names]
        except KeyError:
            return None
    if not set(map(type, values)) <= _PLAIN:
        return None
    try:
        wide = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    with np.errstate(over="ignore"):
        array = wide.astype(np.float32)
    if not np.isfinite(array).all() or (np.abs(wide) > _EXACT).any():
        return None
    return array.reshape(len(rows), len(names))


def _parsed(text: bytes | bytearray | str) -> Any:
    """Return what JSON says, None for what is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
