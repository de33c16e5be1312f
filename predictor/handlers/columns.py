"""From the tensors of one request to the arrays that a signature model is called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from predictor.errors import InvalidInput, InvalidOutput
from predictor.handlers.inputs import cast_array, check_names
from predictor.handlers.tensors import (
    Array,
    Table,
    Tensor,
    from_torch,
    narrow_to_bf16,
    widen_bf16,
)
from predictor.ipc.messages import TensorSpec
from predictor.oip.datatypes import DATATYPES

if TYPE_CHECKING:
    from predictor.handlers.declaration import Signature

Element = Callable[[TensorSpec, Any], Array]
"""Turns one element of BYTES (a picture or a text) into the array that its input declares."""


def arguments(signature: Signature, table: Table, element: Element) -> list[Array | None]:
    """Return the model's arguments for one request, each with a batch axis of the same length.

    Args:
        signature: what the model takes.
        table: what the request holds; an optional input that it leaves out is None among the arguments.
        element: what turns a picture or a text into an array.

    Raises:
        InvalidInput: an input is missing, unknown, or of the wrong type or shape; the message names it.
    """
    specs = signature.inputs
    tensors = list(table.values())
    if signature.pack_inputs and _is_packed(tensors, specs):
        return [_packed(tensors[0], specs)]
    named = _named(specs, table)
    columns = {spec.name: _column(spec, named[spec.name], element) for spec in specs if spec.name in named}
    if len({single for single, _ in columns.values()}) > 1:
        raise InvalidInput("Either all inputs have a batch axis, or none of them")
    arrays = {name: array for name, (_, array) in columns.items()}
    first, rows = next((name, len(array)) for name, array in arrays.items())
    for name, array in arrays.items():
        if len(array) != rows:
            raise InvalidInput(f"Input '{name}' has {len(array)} rows, '{first}' has {rows}")
    if signature.pack_inputs:
        return [np.stack([arrays[spec.name] for spec in specs], axis=1).astype(np.float32, copy=False)]
    return [arrays.get(spec.name) for spec in specs]


def _named(specs: Sequence[TensorSpec], table: Table) -> Table:
    """Return the tensors by declared name; a lone one fits a lone input whatever it is called."""
    if len(specs) == 1 and len(table) == 1:
        return Table({specs[0].name: next(iter(table.values()))})
    check_names(tuple(specs), table)
    return table


def _column(spec: TensorSpec, tensor: Tensor, element: Element) -> tuple[bool, Array]:
    """Return whether the tensor is one example, and its array with a batch axis."""
    array = tensor.array
    if tensor.datatype == "BYTES":
        return _elements(spec, tensor, element)
    if not spec.ranked:
        return False, _unranked(spec, tensor)
    array = _cast(spec, tensor)
    rank = len(spec.shape)
    # A column of scalars is as often sent as [n, 1].
    if not rank and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    single = array.ndim == rank
    if single:
        array = array[None]
    if array.ndim != rank + 1 or any(
        want not in (-1, got) for want, got in zip(spec.shape, array.shape[1:], strict=True)
    ):
        raise InvalidInput(
            f"Invalid shape for '{spec.name}': expected {[-1, *spec.shape]}, got {list(tensor.array.shape)}"
        )
    return single, array


def _unranked(spec: TensorSpec, tensor: Tensor) -> Array:
    """Return a tensor as it came, for a model of which neither shape nor dtype is known."""
    if not tensor.array.ndim:
        raise InvalidInput(f"Invalid shape for '{spec.name}': it needs a batch axis")
    return widen_bf16(tensor.array) if tensor.datatype == "BF16" else tensor.array


def _elements(spec: TensorSpec, tensor: Tensor, element: Element) -> tuple[bool, Array]:
    """Decode a tensor of BYTES, of shape [], [n] or [n, 1], one element for each example."""
    array = tensor.array
    if spec.kind == "tensor":
        raise InvalidInput(f"Invalid datatype for '{spec.name}': expected {_datatype(spec)}, got BYTES")
    if any(size != 1 for size in array.shape[1:]):
        raise InvalidInput(f"Invalid shape for '{spec.name}': expected [-1], got {list(array.shape)}")
    examples = [element(spec, value) for value in array.reshape(-1).tolist()]
    if not examples:
        raise InvalidInput(f"Input '{spec.name}' is empty")
    if any(example.shape != examples[0].shape for example in examples):
        raise InvalidInput(f"Input '{spec.name}': its examples differ in shape; send them one by one")
    return not array.shape, np.stack(examples)


def _cast(spec: TensorSpec, tensor: Tensor) -> Array:
    """Return the elements in the declared type, if that loses nothing but precision."""
    wanted = _datatype(spec)
    if tensor.datatype == wanted:
        return tensor.array
    array = widen_bf16(tensor.array) if tensor.datatype == "BF16" else tensor.array
    if wanted == "BYTES" or (wanted == "BOOL") != (array.dtype.kind == "b"):
        raise InvalidInput(f"Invalid datatype for '{spec.name}': expected {wanted}, got {tensor.datatype}")
    if wanted == "BF16":
        return narrow_to_bf16(array)
    return cast_array(spec, array)


def _datatype(spec: TensorSpec) -> str:
    """Return V2's datatype of an input as a tensor of numbers; a text may have none."""
    return DATATYPES.get(spec.dtype, "BYTES")


def _is_packed(tensors: Sequence[Tensor], specs: Sequence[TensorSpec]) -> bool:
    """Whether all scalar inputs come as the columns of one tensor of numbers."""
    return len(tensors) == 1 and len(specs) > 1 and tensors[0].array.ndim == 2


def _packed(tensor: Tensor, specs: Sequence[TensorSpec]) -> Array:
    whole = TensorSpec(tensor.name, "float32", (len(specs),))
    if tensor.datatype == "BYTES":
        raise InvalidInput(f"Invalid datatype for '{tensor.name}': expected FP32, got BYTES")
    return _column(whole, tensor, _no_element)[1]


def _no_element(spec: TensorSpec, value: Any) -> Array:
    raise InvalidInput(f"Invalid datatype for '{spec.name}'")


def join_rows(columns: Sequence[Array | None]) -> Array | None:
    """Return the rows of all arrays in one of its own, which the model may write into; None for Nones."""
    arrays = [column for column in columns if column is not None]
    if not arrays:
        return None
    return np.concatenate(arrays) if len(arrays) > 1 else np.array(arrays[0])


def rows_of(columns: Sequence[Array | None]) -> int:
    """Return the length of the batch axis of a request's arguments."""
    return next(len(column) for column in columns if column is not None)


def split_rows(outputs: Mapping[str, torch.Tensor | Array], sizes: Sequence[int]) -> list[Table]:
    """Cut the outputs of a batch into the answers to its requests, which hold `sizes` rows.

    Raises:
        InvalidOutput: an output has another number of rows than went in.
    """
    check_rows(outputs, sum(sizes))
    tensors = [_output(name, value) for name, value in outputs.items()]
    tables = []
    start = 0
    for size in sizes:
        end = start + size
        tables.append(Table((t.name, Tensor(t.name, t.datatype, t.array[start:end])) for t in tensors))
        start = end
    return tables


def check_rows(outputs: Mapping[str, torch.Tensor | Array], rows: int) -> None:
    """Check that a batch of `rows` has an answer for each.

    Raises:
        InvalidOutput: an output has another number of rows than went in.
    """
    for name, value in outputs.items():
        if not value.ndim or len(value) != rows:
            raise InvalidOutput(
                f"the model's output '{name}' has the shape {list(value.shape)} for a batch of {rows}"
            )


def _output(name: str, value: torch.Tensor | Array) -> Tensor:
    if isinstance(value, torch.Tensor):
        array, datatype = from_torch(value)
        return Tensor(name, datatype, array)
    return Tensor(name, "BYTES", value)
