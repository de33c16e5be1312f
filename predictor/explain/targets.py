"""Which output is explained: checked, because PyTorch takes -1 for the last class and a text for anything."""

from __future__ import annotations

from collections.abc import Sequence

from predictor.errors import InvalidInput

PREDICTED = "predicted"


def resolve_target(
    target: int | str, classes: Sequence[str], outputs: int, where: str = "explain.target"
) -> int | None:
    """Return the index of an output, None for the predicted one.

    Args:
        target: an index, a label, or "predicted"; a text of digits that is no label is an index.
        classes: the model's labels, empty if it has none.
        outputs: how many outputs the model has.
        where: the field that holds the target, for the message.

    Raises:
        InvalidInput: there is no such output.
    """
    if isinstance(target, str):
        if target in classes:
            return classes.index(target)
        if target == PREDICTED:
            return None
        if not (target.isascii() and target.isdigit() and len(target) < 10):
            known = f"one of {', '.join(classes[:20])}" if classes else "an index: this model has no labels"
            more = f" and {len(classes) - 20} more" if len(classes) > 20 else ""
            raise InvalidInput(f"{where} must be {known}{more}, or 'predicted'; got {target!r}")
        target = int(target)
    if not 0 <= target < outputs:
        raise InvalidInput(f"{where} must be from 0 to {outputs - 1}; got {target}")
    return target
