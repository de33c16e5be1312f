"""Gradients along straight lines, behind the affine beginning of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from predictor.explain.budget import Budget
from predictor.explain.examples import Examples, Prefix, Tensors, gradients_of, pick, stack_targets

# Hidden layers have more numbers than pictures, and gradients of each target there are as large: above this
# many times the numbers of the input, fewer rows share a pass.
_ROOM = 6


def sums_behind(
    prefix: Prefix, examples: Examples, sum_up: Callable[[Examples, int], Tensors], budget: Budget
) -> Tensors:
    """Return sums of gradients with respect to the inputs from those with respect to the hidden numbers.

    Args:
        sum_up: takes examples whose one input is hidden numbers, and the numbers that count for a row in
            passes; returns for each input [rows, targets, ...], linear in the gradients.

    Returns:
        The same for the inputs themselves, up to rounding.
    """
    parts = []
    numbers = max(examples.numbers, prefix.numbers * examples.targets.shape[1] // _ROOM)
    for part in budget.chunks(len(examples), numbers, examples.device):
        index = torch.arange(part.start, part.stop, device=examples.device)
        rows = examples.with_inputs(pick(examples.inputs, index), index)
        parts.append(_of_rows(prefix, rows, sum_up, numbers))
    return parts[0] if len(parts) == 1 else tuple(torch.cat(some) for some in zip(*parts, strict=True))


def _of_rows(
    prefix: Prefix, examples: Examples, sum_up: Callable[[Examples, int], Tensors], numbers: int
) -> Tensors:
    inputs, baselines = list(examples.inputs), list(examples.baselines)
    with torch.enable_grad():
        leaf = inputs[prefix.index].detach().requires_grad_()
        hidden = prefix.head(leaf)
    with torch.no_grad():
        baselines[prefix.index] = prefix.head(baselines[prefix.index])
    inputs[prefix.index] = hidden.detach()
    behind = dataclasses.replace(examples, inputs=tuple(inputs), baselines=tuple(baselines))
    sums = list(sum_up(behind, numbers))
    columns = list(sums[prefix.index].unbind(dim=1))
    found = [
        gradients_of(hidden, [leaf], column, again=number + 1 < len(columns))[0]
        for number, column in enumerate(columns)
    ]
    sums[prefix.index] = stack_targets(found)
    return tuple(sums)
