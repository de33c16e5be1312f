"""Named inputs: the rules by which a client's values are checked against their declaration.

The rules are those of `docs/protocols.md` ("Named inputs"): numbers are cast to the declared dtype
where that loses nothing, and the rank of a value tells one example from a batch.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from predictor.errors import InvalidInput
from predictor.ipc.messages import TensorSpec


class SignatureError(Exception):
    """A `signature:` section cannot be used; the text names the key."""


def numbers(spec: TensorSpec, value: Any) -> npt.NDArray[Any]:
    """Return `value` (nested lists, or an array) as an array of the declared dtype, of any shape.

    Raises:
        InvalidInput: it is ragged, holds something that is not a number, or does not fit the dtype.
    """
    if isinstance(value, (str, bytes, bytearray, dict)) or value is None:
        expected = "array" if spec.shape else "number"
        raise InvalidInput(f"Invalid input type for '{spec.name}': expected {expected}")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"Invalid input for '{spec.name}': its rows differ in length") from error
    if array.dtype == object or array.dtype.kind not in "iufb":
        raise InvalidInput(f"Invalid input type for '{spec.name}': expected numbers of type {spec.dtype}")
    # numpy turns a boolean among numbers into a number, which the client did not mean.
    mixed = array.dtype.kind != "b" and not isinstance(value, np.ndarray) and _holds_boolean(value)
    if array.size and (mixed or (array.dtype.kind == "b") != (spec.dtype == "bool")):
        raise InvalidInput(
            f"Invalid input type for '{spec.name}': expected {spec.dtype}, got booleans or numbers"
        )
    return cast_array(spec, array)


def one_or_batch(spec: TensorSpec, value: Any) -> bool:
    """Tell by its rank whether `value` is one example (True) or a batch of them (False).

    Raises:
        InvalidInput: the rank fits neither.
    """
    if not spec.ranked:
        if not isinstance(value, (list, np.ndarray)):
            raise InvalidInput(f"Invalid input type for '{spec.name}': expected array")
        return False
    if spec.kind == "text":
        if not isinstance(value, (str, list)):
            raise InvalidInput(f"Invalid input type for '{spec.name}': expected string")
        return isinstance(value, str)
    if spec.kind == "image" and isinstance(value, (str, bytes, bytearray)):
        return True
    if spec.kind == "image" and isinstance(value, list) and value and isinstance(value[0], (str, bytes)):
        return False
    if spec.shape and not isinstance(value, (list, np.ndarray)):
        raise InvalidInput(f"Invalid input type for '{spec.name}': expected array")
    rank = np.ndim(value) if isinstance(value, np.ndarray) else _depth(value)
    if rank == len(spec.shape):
        return True
    if rank == len(spec.shape) + 1:
        return False
    shape = list(_shape(value))
    raise InvalidInput(f"Invalid shape for '{spec.name}': expected {[-1, *spec.shape]}, got {shape}")


def check_shape(spec: TensorSpec, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `array`, one example, if it has the declared shape.

    Raises:
        InvalidInput: it has another one.
    """
    if not spec.ranked:
        return array
    fits = array.ndim == len(spec.shape) and all(
        want in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"Invalid shape for '{spec.name}': expected {[-1, *spec.shape]}, got {[1, *array.shape]}"
        )
    return array


def split_examples(
    specs: tuple[TensorSpec, ...], document: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], bool]:
    """Cut an object of named inputs into examples; the flag says whether the client sent just one.

    Raises:
        InvalidInput: an input is missing, unknown, or of another batch size than its neighbours.
    """
    check_names(specs, document)
    single = {spec.name: one_or_batch(spec, document[spec.name]) for spec in specs if spec.name in document}
    first = next(iter(single))
    if len(set(single.values())) > 1:
        odd = next(name for name, one in single.items() if one != single[first])
        raise InvalidInput(f"Input '{odd}' must have a batch axis like the others, or none of them may")
    if single[first]:
        return [dict(document)], True
    sizes = {name: len(document[name]) for name in single}
    size = sizes[first]
    for name, other in sizes.items():
        if other != size:
            raise InvalidInput(f"Input '{name}' has {other} rows, '{first}' has {size}")
    if not size:
        raise InvalidInput(f"Input '{first}' is empty")
    return [{name: document[name][row] for name in single} for row in range(size)], False


def check_names(specs: tuple[TensorSpec, ...], names: Mapping[str, Any]) -> None:
    """Check that the declared inputs are there, at least one and all that are required, and no others.

    Raises:
        InvalidInput: names the input that is missing or unknown.
    """
    for spec in specs:
        if spec.name not in names and (spec.required or not names):
            raise InvalidInput(f"Missing required input: '{spec.name}'")
    known = [spec.name for spec in specs]
    for name in names:
        if name not in known:
            raise InvalidInput(f"Unknown input: '{name}'. Expected: {', '.join(known)}")


def as_text(name: str, value: Any) -> str:
    """Return the text of input `name`, given as such or as UTF-8.

    Raises:
        InvalidInput: it is neither.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"Invalid input for '{name}': not UTF-8 text") from error
    raise InvalidInput(f"Invalid input type for '{name}': expected string")


def from_base64(spec: TensorSpec, text: str) -> bytes:
    """Decode base64 text, with or without a `data:` prefix.

    Raises:
        InvalidInput: it is not base64.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise InvalidInput(f"Invalid input for '{spec.name}': not base64 ({error})") from error


def cast_array(spec: TensorSpec, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers in the declared dtype, of which numpy holds a bfloat16 as a float32.

    Raises:
        InvalidInput: a number has no place in it: a fraction among integers, or one out of range.
    """
    target = np.dtype("float32" if spec.dtype == "bfloat16" else spec.dtype)
    if target.kind in "iu":
        if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.floor(array))).all():
            raise InvalidInput(f"Invalid input for '{spec.name}': {spec.dtype} needs whole numbers")
        # As Python integers, because the limits of int64 are not exact as floats.
        limits = np.iinfo(target)
        if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
            raise InvalidInput(f"Invalid input for '{spec.name}': out of the range of {spec.dtype}")
    with np.errstate(over="ignore"):
        cast = array.astype(target, copy=False)
    if target.kind == "f" and (np.isinf(cast) & np.isfinite(array)).any():
        raise InvalidInput(f"Invalid input for '{spec.name}': out of the range of {spec.dtype}")
    return cast


def _holds_boolean(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_boolean(item) for item in value)
    return isinstance(value, bool)


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, (list, tuple)):
        depth += 1
        if not value:
            break
        value = value[0]
    return depth


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, (list, tuple)):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)
