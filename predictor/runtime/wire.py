"""Making what a handler chose fit to travel: texts that can be encoded, statuses that HTTP knows."""

from __future__ import annotations

from collections.abc import Mapping


def wire_text(value: object) -> str:
    """Return text that can travel: a lone surrogate, which JSON may smuggle in, cannot."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def wire_status(value: object, default: int) -> int:
    """Return an HTTP status from what a handler chose, which may be any kind of number or a text.

    What is no status of a final response (below 200, above 599, no number) becomes `default`.
    """
    try:
        status = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return default
    return status if 200 <= status <= 599 else default


def wire_headers(chosen: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the response headers that a handler set, each name once.

    As in TorchServe, names that differ in case only replace each other in the order they were set, except
    that the key `content-type` counts as the first of all.
    """
    headers: dict[str, tuple[str, str]] = {}
    for name, value in sorted(chosen.items(), key=lambda item: item[0] != "content-type"):
        text = wire_text(name)
        headers[text.lower()] = (text, wire_text(value))
    return list(headers.values())
