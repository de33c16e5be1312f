"""V2's tensors as JSON and as bytes. Lengths and shapes are a client's claims, and checked as such.

Nothing here runs Python code for each number: JSON is read and checked by msgspec, bytes by numpy. Only
BYTES, whose elements differ in length, are taken one by one.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from predictor.errors import InvalidInput
from predictor.handlers.tensors import Array, Tensor, element_type

_MAX_RANK = 32
_MAX_DIMENSION = 2**63 - 1
_MAX_EMPTY_DIMENSION = 2**20
_LENGTH = struct.Struct("<I")
_OPENING = re.compile(rb"[\[\s]*")
_BINARY_ONLY = ("FP16", "BF16")


def from_bytes(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Tensor:
    """Return the tensor that `data` holds in V2's binary form: row-major, little endian.

    The array is a read-only view of `data`, except for BYTES and BOOL.

    Raises:
        InvalidInput: the datatype is unknown, or the length does not fit the shape.
    """
    element = element_type(name, datatype)
    count = check_shape(name, shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, _objects(name, _split(name, data, count), shape))
    if len(data) != count * element.itemsize:
        raise InvalidInput(
            f"Tensor '{name}' needs {count * element.itemsize} bytes for {datatype} {list(shape)}, "
            f"got {len(data)}"
        )
    if datatype == "BOOL":
        return Tensor(name, datatype, (np.frombuffer(data, np.uint8) != 0).reshape(shape))
    return Tensor(name, datatype, np.frombuffer(data, element).reshape(shape))


def from_json(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:
    """Return the tensor whose elements stand in JSON, flat or nested.

    Args:
        shape: a single -1 is filled in for BYTES, which TorchServe's examples need.
        data: the JSON text (`msgspec.Raw`), or what it parses to.

    Raises:
        InvalidInput: the datatype has no JSON form, or an element is not of it, or the count is wrong.
    """
    element = element_type(name, datatype)
    if datatype in _BINARY_ONLY:
        raise InvalidInput(f"Tensor '{name}': {datatype} has no JSON form; send it as binary data")
    if datatype == "BYTES":
        return Tensor(name, datatype, _texts(name, shape, data))
    count = check_shape(name, shape)
    values = _parse(name, datatype, data)
    try:
        # Through the widest type, so that what is out of range is seen and not wrapped or made infinite.
        array = np.array(values, dtype=np.float64 if element.kind == "f" else element)
    except (ValueError, OverflowError, TypeError) as error:
        raise InvalidInput(f"Tensor '{name}': its rows differ in length, or a number is too large") from error
    if array.size != count:
        raise InvalidInput(
            f"Tensor '{name}' has {array.size} elements; its shape {list(shape)} needs {count}"
        )
    return Tensor(name, datatype, _narrow(name, datatype, array, element).reshape(shape))


def check_shape(name: str, shape: Sequence[int]) -> int:
    """Return the number of elements of `shape`.

    Raises:
        InvalidInput: it has a negative or absurd dimension, or too many of them.
    """
    if len(shape) > _MAX_RANK:
        raise InvalidInput(f"Tensor '{name}' has {len(shape)} dimensions; the limit is {_MAX_RANK}")
    count = math.prod(shape)
    # A tensor without elements costs a client nothing, and a model what its other dimensions claim.
    limit = _MAX_DIMENSION if count else _MAX_EMPTY_DIMENSION
    if any(not 0 <= size <= limit for size in shape):
        raise InvalidInput(f"Tensor '{name}' has an impossible shape: {list(shape)}")
    return count


def to_bytes(tensor: Tensor) -> bytes:
    """Return a tensor's elements in V2's binary form."""
    if tensor.datatype != "BYTES":
        return np.ascontiguousarray(tensor.array, element_type(tensor.name, tensor.datatype)).tobytes()
    parts: list[bytes] = []
    for value in elements(tensor):
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def elements(tensor: Tensor) -> list[bytes]:
    """Return the elements of a tensor of BYTES, row-major; text as UTF-8."""
    return [
        value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
        for value in tensor.array.reshape(-1).tolist()
    ]


def to_json(tensor: Tensor) -> Any:
    """Return a tensor's elements for orjson, flat; None when they have no JSON form."""
    if tensor.datatype in _BINARY_ONLY:
        return None
    if tensor.datatype != "BYTES":
        return np.ascontiguousarray(tensor.array).reshape(-1)
    try:
        return [value.decode("utf-8") for value in elements(tensor)]
    except UnicodeDecodeError:
        return None


def _split(name: str, data: bytes | memoryview, count: int) -> list[bytes]:
    """Cut length-prefixed elements apart."""
    # A lying shape ends here, before anything of its size is made.
    if len(data) < count * _LENGTH.size:
        raise InvalidInput(f"Tensor '{name}' has {len(data)} bytes, too few for {count} elements")
    parts: list[bytes] = []
    start = 0
    while start < len(data) and len(parts) < count:
        if start + _LENGTH.size > len(data):
            break
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if length > len(data) - start:
            raise InvalidInput(f"Tensor '{name}': element {len(parts)} is cut short")
        parts.append(bytes(data[start : start + length]))
        start += length
    if len(parts) != count or start != len(data):
        raise InvalidInput(f"Tensor '{name}' does not hold exactly {count} elements of BYTES")
    return parts


def _objects(name: str, values: Sequence[Any], shape: Sequence[int]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    try:
        return array.reshape(shape)
    except ValueError as error:
        raise InvalidInput(
            f"Tensor '{name}' has {len(values)} elements; its shape is {list(shape)}"
        ) from error


def _texts(name: str, shape: Sequence[int], data: Any) -> Array:
    """Return the strings of a tensor; a bare one, as TorchServe's clients send it, is one element."""
    values = np.array(_parse(name, "BYTES", data), dtype=object).reshape(-1)
    if not all(isinstance(value, str) for value in values.tolist()):
        raise InvalidInput(f"Tensor '{name}': its rows differ in length")
    if list(shape).count(-1) == 1:
        check_shape(name, [size for size in shape if size != -1])
    else:
        check_shape(name, shape)
    return _objects(name, values.tolist(), shape)


def _parse(name: str, datatype: str, data: Any) -> Any:
    """Parse JSON into nested lists of what the datatype allows, and of nothing else."""
    try:
        if isinstance(data, msgspec.Raw):
            text = bytes(data)
            opening = _OPENING.match(text)
            depth = opening.group().count(b"[") if opening else 0
            return _decoder(datatype, _limited(name, depth)).decode(text)
        return msgspec.convert(data, _nested(datatype, _limited(name, _depth(data))))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"Tensor '{name}': not data of type {datatype}: {error}") from error


def _depth(data: Any) -> int:
    depth = 0
    while isinstance(data, list) and depth <= _MAX_RANK:
        depth += 1
        data = data[0] if data else None
    return depth


def _limited(name: str, depth: int) -> int:
    if depth > _MAX_RANK:
        raise InvalidInput(f"Tensor '{name}' is nested deeper than {_MAX_RANK} levels")
    return depth


@functools.cache
def _decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_nested(datatype, depth))


@functools.cache
def _nested(datatype: str, depth: int) -> Any:
    """Return the type of lists in lists, `depth` of them, of one datatype's elements."""
    kind = _scalar(datatype)
    for _ in range(depth):
        kind = list.__class_getitem__(kind)
    return kind


def _scalar(datatype: str) -> Any:
    if datatype == "BYTES":
        return str
    if datatype == "BOOL":
        return bool
    element = element_type("", datatype)
    if element.kind == "f":
        return float | None  # null is how JSON says NaN
    limits = np.iinfo(element)
    if datatype == "UINT64":
        return Annotated[int, msgspec.Meta(ge=0)]  # msgspec takes no limit beyond int64
    return Annotated[int, msgspec.Meta(ge=int(limits.min), le=int(limits.max))]


def _narrow(name: str, datatype: str, array: Array, element: np.dtype[Any]) -> Array:
    if element.itemsize == array.dtype.itemsize:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(element)
    if (np.isinf(narrow) & np.isfinite(array)).any():
        raise InvalidInput(f"Tensor '{name}': a number is out of the range of {datatype}")
    return narrow
