"""What a request for an explanation wants, read from its row and its headers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any

from predictor.errors import InvalidInput

PNG, HTML, SVG, JSON = "image/png", "text/html", "image/svg+xml", "application/json"


@dataclasses.dataclass(frozen=True)
class Wish:
    """A row, freed of what it says about its explanation.

    Attributes:
        row: for the handler, as it would be for a prediction.
        explain: the `explain` object as it was sent, None when there was none.
        target: the row's own target, None when there was none.
        media_type: what the client wants to see: JSON, or one of the drawn forms.
    """

    row: Mapping[str, Any]
    explain: Any
    target: Any
    media_type: str

    @property
    def wanted_target(self) -> Any:
        """The target as it was sent, in either place; None where it was not."""
        if self.target is not None or not isinstance(self.explain, Mapping):
            return self.target
        return self.explain.get("target")


def read_wish(row: Mapping[str, Any], names: Collection[str], accept: str, first_is_text: bool) -> Wish:
    """Take `explain` and `target` out of a row, wherever the protocol put them.

    Args:
        names: of the model's inputs; one that is called `explain` or `target` stays an input.
        accept: the Accept header.
        first_is_text: the model's first input is a text, which may look like JSON and is none.

    Raises:
        InvalidInput: `explain` is a form's field and no JSON.
    """
    found: dict[str, Any] = {}
    row = _take(row, names, found)
    for key in ("body", "data"):
        inner = _as_object(row.get(key), first_is_text)
        if inner is not None:
            taken = _take(inner, names, found)
            wraps = key == "body" and set(taken) <= {"data", "body"} and taken
            row = {**row, **taken} if wraps else {**row, key: taken}
            if wraps:
                row = {name: value for name, value in row.items() if name != "body" or "body" in taken}
    explain = found.get("explain")
    if isinstance(explain, (bytes, bytearray, str)):
        explain = _parse(explain)
    return Wish(row, explain, found.get("target"), wanted_type(accept))


def read_undeclared(row: Mapping[str, Any], accept: str) -> Wish:
    """Take `explain` and `target` out of a row for a handler that declares no inputs.

    Where the row, or its `data`, is an object of values, nobody can know whether `target` is one of them.

    Raises:
        InvalidInput: `target` may be either, or `explain` is a form's field and no JSON.
    """
    inner = row.get("data")
    is_bare = inner is None and row.get("body") is None
    values = row if is_bare else inner
    if not isinstance(values, Mapping) or "target" not in values:
        return read_wish(row, (), accept, False)
    if isinstance(values["target"], (bytes, bytearray)):
        return read_wish(row, (), accept, False)  # a form's field, as TorchServe's clients send it
    explain = row.get("explain")
    explain = _parse(explain) if isinstance(explain, (bytes, bytearray, str)) else explain
    is_told = isinstance(explain, Mapping) and "target" in explain
    if not is_told and (is_bare or "target" not in row):
        raise InvalidInput(
            f"{'target' if is_bare else 'data.target'} may be a value of the input or the output to explain. "
            "If it is the output, move it to explain.target; if it is a value, name an output there as well"
        )
    if is_bare:
        return read_wish(row, ("target",), accept, False)
    wish = read_wish({**row, "data": None}, (), accept, False)
    return dataclasses.replace(wish, row={**wish.row, "data": inner})


def _take(row: Mapping[str, Any], names: Collection[str], found: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for key, value in row.items():
        if key in ("explain", "target") and key not in names:
            found.setdefault(key, value)
        else:
            kept[key] = value
    return kept


def _as_object(value: Any, is_text: bool) -> Mapping[str, Any] | None:
    """Return an object, or the one that bytes hold as JSON."""
    if isinstance(value, Mapping):
        return value
    if is_text or not isinstance(value, (bytes, bytearray)) or value.lstrip()[:1] != b"{":
        return None
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        return None  # the handler says what is wrong with it
    return document if isinstance(document, dict) else None


def _parse(text: bytes | bytearray | str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"'explain' is not JSON: {error}") from error


def wanted_type(accept: str) -> str:
    """Return the first of our media types that an Accept header names with the greatest weight.

    What is unknown to us, or everything, means JSON.
    """
    best, best_weight = JSON, 0.0
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = _weight(parameters)
        if name in ("application/xhtml+xml", "*/*") or weight <= best_weight:
            continue
        if name in (PNG, HTML, SVG, JSON):
            best, best_weight = name, weight
    return best


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0
