"""Numbers that are none: said in words, before they become an answer full of nulls."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from predictor.errors import InvalidInput
from predictor.explain.explanation import Explanation

_NOT_FINITE = "is not a finite number"


def check_output(outputs: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> None:
    """Check the outputs of one example that are to be explained.

    Args:
        outputs: [targets].
        tensors: the example, by input.

    Raises:
        InvalidInput: there is nothing to explain; the message names the input at fault if one is.
    """
    if torch.isfinite(outputs).all():
        return
    text = (
        f"the model's output for this input {_NOT_FINITE} ({_first_bad(outputs)}), so nothing can explain it"
    )
    culprit = _culprit(tensors)
    raise InvalidInput(f"Input '{culprit}' holds NaN or infinity: {text}" if culprit else f"explain: {text}")


def check_explanation(found: Explanation, tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that an explanation holds numbers.

    Raises:
        InvalidInput: it does not; the message says why, and what may help.
    """
    sums = [found.total, found.size, *([found.delta] if found.has_delta else [])]
    if torch.isfinite(torch.tensor(sums, dtype=torch.float64)).all():
        return
    subject = f"explain.method '{found.method}' finds no finite numbers for this input"
    culprit = _culprit(tensors)
    if culprit:
        raise InvalidInput(
            f"Input '{culprit}' holds NaN or infinity: {subject}; feature_ablation may find some"
        )
    if not torch.isfinite(torch.tensor(found.baseline_output)):
        raise InvalidInput(
            f"{subject}, because the model's output for the baseline {_NOT_FINITE} "
            f"({found.baseline_output}); choose another explain.baseline"
        )
    raise InvalidInput(f"{subject}: the model's output or its slope {_NOT_FINITE} somewhere on the way")


def _first_bad(values: torch.Tensor) -> float:
    return float(values[~torch.isfinite(values)][0])


def _culprit(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """Return the name of the first input that holds a number that is none."""
    return next(
        (name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()),
        None,
    )
