"""Tensors with V2's element types, between the wire and PyTorch, without a copy where none is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from predictor.errors import InvalidInput
from predictor.oip.datatypes import DATATYPES

Array = npt.NDArray[Any]

BF16 = np.dtype("<u2")
"""How numpy, which has no bfloat16, holds one: by its bits."""

_BYTES = np.dtype(object)
_ELEMENTS: dict[str, np.dtype[Any]] = {
    datatype: np.dtype(dtype).newbyteorder("<")
    for dtype, datatype in DATATYPES.items()
    if datatype not in ("BF16", "BYTES")
}
_ELEMENTS |= {"BF16": BF16, "BYTES": _BYTES}


_TORCH_TYPES = {
    getattr(torch, dtype): datatype for dtype, datatype in DATATYPES.items() if datatype != "BYTES"
}


class Tensor:
    """A named array.

    Attributes:
        name: of an input or output.
        datatype: V2's name of the element type.
        array: the elements; BF16 as uint16 bits, BYTES as objects (`bytes` or `str`).
    """

    __slots__ = ("array", "datatype", "name")

    def __init__(self, name: str, datatype: str, array: Array) -> None:
        """Keep the parts."""
        self.name = name
        self.datatype = datatype
        self.array = array

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.datatype}, {list(self.array.shape)})"


class Table(dict[str, Tensor]):
    """The inputs, or the outputs, of one request by name: the row that a signature model is handed.

    Its tensors have a batch axis of their own (or none of them has: one example), so a request that
    holds many examples costs no more Python than one that holds one.
    """


def element_type(name: str, datatype: str) -> np.dtype[Any]:
    """Return numpy's element type, little endian, for V2's `datatype` of tensor `name`.

    Raises:
        InvalidInput: there is no such datatype.
    """
    element = _ELEMENTS.get(datatype)
    if element is None:
        known = ", ".join(_ELEMENTS)
        raise InvalidInput(f"Tensor '{name}' has the unknown datatype '{datatype}'; known are {known}")
    return element


def to_torch(array: Array, dtype: str) -> torch.Tensor:
    """Return a writable array as a tensor of `dtype`, a signature's name for the array's own type."""
    if dtype == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def from_torch(tensor: torch.Tensor) -> tuple[Array, str]:
    """Return a tensor's elements, on the host, and V2's name of their type.

    Raises:
        TypeError: V2 does not know the type (a quantised or complex one).
    """
    datatype = _TORCH_TYPES.get(tensor.dtype)
    if datatype is None:
        raise TypeError(f"V2 has no datatype for {tensor.dtype}")
    if datatype == "BF16":
        return tensor.contiguous().view(torch.int16).numpy(force=True).view(BF16), datatype
    return tensor.numpy(force=True), datatype


def widen_bf16(bits: Array) -> Array:
    """Return bfloat16 numbers, given by their bits, as the float32 numbers that they are."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrow_to_bf16(numbers: Array) -> Array:
    """Return the bits of the bfloat16 numbers nearest to `numbers` (ties to even)."""
    tensor = torch.from_numpy(np.array(numbers, dtype=np.float32)).to(torch.bfloat16)
    return tensor.view(torch.int16).numpy().view(BF16)
