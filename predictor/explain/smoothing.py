"""SmoothGrad and its kin: any gradient method, averaged over noisy copies of the input."""

from __future__ import annotations

from collections.abc import Callable

import torch

from predictor.explain.budget import Budget
from predictor.explain.examples import Attributed, Examples, Subject, by_example
from predictor.explain.gradients import generator, noise
from predictor.explain.methods import Args

Attribute = Callable[[Subject, Examples, Budget, Args], Attributed]


def smooth(method: Attribute, subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Return what `method` finds on average for `noise_samples` noisy copies of each row.

    The noise's standard deviation is `noise_stdev` times the range of each example's input: its
    largest number minus its smallest, and for a row of features the distance of each to its baseline.
    """
    count = int(args["noise_samples"])
    row = torch.arange(len(examples), device=examples.device).repeat_interleave(count)
    generators = [generator(seed) for seed in examples.seeds]
    noisy = []
    for tensor, baseline in zip(examples.inputs, examples.baselines, strict=True):
        scale = input_range(tensor, baseline) * args["noise_stdev"]
        noisy.append(tensor[row] + noise(tensor, generators, count) * scale[row])
    found = method(subject, examples.with_inputs(tuple(noisy), row), budget, args)
    values = tuple(_combine(by_example(value, count), args["noise_type"]) for value in found.values)
    steps = found.n_steps and [max(found.n_steps[i : i + count]) for i in range(0, len(row), count)]
    converged = found.converged and [
        [all(copies) for copies in zip(*found.converged[i : i + count], strict=True)]
        for i in range(0, len(row), count)
    ]
    return Attributed(values, steps, converged, shared=found.shared)


def input_range(tensor: torch.Tensor, baseline: torch.Tensor) -> torch.Tensor:
    """Return the unit that noise is measured in, so that it multiplies `tensor` [rows, ...]."""
    if tensor.dim() <= 2:
        return (tensor - baseline).abs()
    flat = tensor.flatten(1)
    spread = flat.amax(dim=1) - flat.amin(dim=1)
    return spread.reshape(-1, *[1] * (tensor.dim() - 1))


def _combine(values: torch.Tensor, kind: str) -> torch.Tensor:
    """Combine [rows, copies, targets, ...] over the copies."""
    if kind == "smoothgrad":
        return values.mean(dim=1)
    squares = (values * values).mean(dim=1)
    return squares if kind == "smoothgrad_sq" else squares - values.mean(dim=1) ** 2
