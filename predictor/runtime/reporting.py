"""What a handler has told `context.metrics`, on its way to the front end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from predictor.ipc.messages import Measured

logger = logging.getLogger(__name__)


def reported(metrics: Any) -> list[Measured]:
    """Return, and forget, what was reported since the last call.

    Args:
        metrics: a `MetricsStore`, or whatever a handler has put in its place, which reports nothing.
    """
    if not getattr(metrics, "has_news", False):
        return []
    return [measured for entry in metrics.drain() if (measured := _measured(entry)) is not None]


def _measured(entry: dict[str, Any]) -> Measured | None:
    value = entry["value"]
    try:
        values = _numbers(value if isinstance(value, list) else [value])
    except (TypeError, ValueError, OverflowError) as error:
        logger.error("metric %s: %r is not a number: %s", entry["name"], value, error)
        return None
    labels = [(str(name), text) for name, text in entry["dimensions"].items()]
    return Measured(str(entry["name"]), entry["type"], str(entry["unit"]), labels, values)


def _numbers(values: Sequence[Any]) -> list[float]:
    """Return plain numbers for whatever handlers measure with: numpy's scalars, tensors of one element."""
    return [float(value) for value in values]
