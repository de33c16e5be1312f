"""Reading and writing JSON as this server does on all its protocols."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import orjson

from predictor.errors import InvalidInput, InvalidOutput


def load_json(body: bytes) -> Any:
    """Parse a request body; NaN and Infinity are accepted as Python writes them.

    Raises:
        InvalidInput: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise InvalidInput(f"Invalid JSON: {error}") from error
    try:
        return parse_constants(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"Invalid JSON: {error}") from error


def parse_constants(text: bytes) -> Any:
    """Parse JSON that holds NaN or Infinity, which is not JSON but what Python writes.

    What else Python reads and orjson does not stays out: integers of more than 64 bits become floats, as they
    do in JSON without such constants, and half a surrogate pair and UTF-16 are errors.

    Raises:
        ValueError: it is not that either.
        RecursionError: it is nested too deeply.
    """
    value = json.loads(text.decode("utf-8"), parse_int=_integer)
    if b"\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def dump_json(value: Any) -> bytes:
    """Serialise an answer; numpy arrays and tensors become lists, what is not finite becomes null.

    Raises:
        InvalidOutput: the value holds something that has no JSON form.
    """
    try:
        return orjson.dumps(
            value, default=_jsonable, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        )
    except (TypeError, ValueError) as error:
        raise InvalidOutput("Unsupported model output data type.") from error


def _integer(text: str) -> int | float:
    number = int(text)
    return number if -(2**63) <= number < 2**64 else float(text)


def _jsonable(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode("ascii")
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")
