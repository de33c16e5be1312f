"""Requests of V2 for explanations of handlers that declare nothing: rows in, one table of tensors out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from predictor.errors import InvalidInput
from predictor.explain.methods import METHODS
from predictor.explain.request import KEYS
from predictor.handlers.tensors import Array, Table, Tensor

_WISHES = {
    "explain",
    *KEYS,
    *(parameter.name for method in METHODS.values() for parameter in method.parameters),
}

# Of outputs that belong to one input.
_OF_INPUTS = ("attributions.", "words.")


@dataclasses.dataclass(frozen=True)
class WishfulRows:
    """A whole request.

    Attributes:
        rows: as the handler would be given them to predict from, at least one; each has its input's `name`.
        parameters: of the request.
        wanted: names of the outputs that it asks for; () for all.
    """

    rows: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    wanted: tuple[str, ...]


def has_wishes(parameters: Mapping[str, Any]) -> bool:
    """Return whether a request says how it wants to be explained; else the handler answers for itself."""
    return not _WISHES.isdisjoint(parameters)


def join_tables(tables: Sequence[Table]) -> Table:
    """Put the answers to the rows of one request below each other, output by output.

    What belongs to the words of texts is filled up to the length of the longest, with zeros or "".

    Raises:
        InvalidInput: the pictures of an input differ in size.
    """
    columns: dict[str, list[Tensor]] = {}
    for table in tables:
        for name, tensor in table.items():
            columns.setdefault(name, []).append(tensor)
    # What not every row has, such as a picture, would be nobody's.
    kept = [name for name in columns if name.startswith(_OF_INPUTS) or len(columns[name]) == len(tables)]
    kept.sort(key=lambda name: not name.startswith(_OF_INPUTS))
    return Table((name, _joined(name, columns[name])) for name in kept)


def _joined(name: str, tensors: Sequence[Tensor]) -> Tensor:
    arrays = [tensor.array for tensor in tensors]
    if all(array.ndim == 2 for array in arrays):
        longest = max(array.shape[1] for array in arrays)
        arrays = [_filled(array, longest) for array in arrays]
    if len({array.shape[1:] for array in arrays}) > 1:
        raise InvalidInput(
            f"{name}: the examples differ in shape, so they make no tensor; send them one by one"
        )
    return Tensor(name, tensors[0].datatype, np.concatenate(arrays))


def _filled(array: Array, length: int) -> Array:
    filled = np.full((len(array), length), "" if array.dtype == object else 0, dtype=array.dtype)
    filled[:, : array.shape[1]] = array
    return filled
