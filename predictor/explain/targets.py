"""Which output is explained: checked, because PyTorch takes -1 for the last class and a text for anything."""

from __future__ import annotations

from collections.abc import Sequence

from predictor.errors import InvalidInput

PREDICTED = "predicted"


def is_index(text: str) -> bool:
    """Return whether a text holds an index."""
    return text.isascii() and text.isdigit() and len(text) < 10


def is_predicted(text: str) -> bool:
    """Return whether a text stands for the predicted output."""
    return text == PREDICTED


def resolve_target(
    target: int | str, labels: Sequence[str], outputs: int, where: str = "explain.target"
) -> int | None:
    """Return the index of an output, None for the predicted one.

    Args:
        target: an index, a label, or "predicted"; a text of digits that is no label is an index.
        labels: names of the model's outputs, empty if they have none.
        outputs: how many outputs the model has.
        where: the field that holds the target, for the message.

    Raises:
        InvalidInput: there is no such output.
    """
    if isinstance(target, str):
        if target in labels:
            return labels.index(target)
        if is_predicted(target):
            return None
        if not is_index(target):
            known = f"one of {', '.join(labels[:20])}" if labels else "an index (this model has no labels)"
            more = f" and {len(labels) - 20} more" if len(labels) > 20 else ""
            raise InvalidInput(f"{where} must be {known}{more}, or 'predicted'; got {target!r}")
        target = int(target)
    if not 0 <= target < outputs:
        raise InvalidInput(f"{where} must be from 0 to {outputs - 1}; got {target}")
    return target
