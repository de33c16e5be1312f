"""V2's parameters of answers and of their outputs, as handlers set them: plain values by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Parameter = bool | int | float | str

AnswerParameters = Mapping[str, Mapping[str, Parameter]]
"""Parameters by the name of the output that they are for, "" for the whole answer."""

NO_PARAMETERS: AnswerParameters = {}
"""What most answers have."""

# The server writes it itself, for an output that goes as bytes.
_RESERVED = "binary_data_size"


def checked_parameters(parameters: Mapping[str, Any]) -> dict[str, Parameter]:
    """Return parameters as JSON and protobuf can say them; numpy's numbers are turned into plain ones.

    Raises:
        TypeError: a value is no boolean, number or text, or a name no text.
        ValueError: a number is not finite or too large, a text is no Unicode, or a name is the server's own.
    """
    return {_name(name): _value(name, value) for name, value in parameters.items()}


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a parameter is a text, not {name!r}")
    if name == _RESERVED:
        raise ValueError(f"the parameter {name} is set by the server")
    name.encode()
    return name


def _value(name: str, value: Any) -> Parameter:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str):
        value.encode()
        return value
    if not isinstance(value, (bool, int, float)):
        raise TypeError(f"parameter {name}: {type(value).__name__} is no boolean, number or text")
    if not (math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**64):
        raise ValueError(f"parameter {name}: {value} has no form in JSON or protobuf")
    return value
