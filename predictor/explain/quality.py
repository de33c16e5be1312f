"""Measures of how well an explanation describes its model."""

from __future__ import annotations

from collections.abc import Callable

import torch

from predictor.errors import InvalidInput
from predictor.explain.budget import Budget
from predictor.explain.examples import Attributed, Examples, Subject, Tensors, by_example
from predictor.explain.gradients import generator
from predictor.explain.perturbation import coalition_scores, group_counts, target_scores
from predictor.explain.smoothing import input_range

SAMPLES = 50
SENSITIVITY_SAMPLES = 10
# Of the input's range: what nobody would see in a picture of numbers from 0 to 1.
SENSITIVITY_RADIUS = 0.02


def infidelity(
    subject: Subject, examples: Examples, budget: Budget, found: Attributed, is_slope: bool
) -> list[float]:
    """Return for each row how badly its attributions foretell what the output loses without features.

    Random halves of the features are set to the baseline; the measure is the mean squared difference
    between the attributions of what was taken away and what the output lost, as Captum defines it. 0 is
    perfect. Several targets of a row are averaged.

    Args:
        is_slope: the attributions are slopes, which still have to be multiplied by the way.
    """
    measures = []
    before = target_scores(subject, examples, budget)
    for row, count in enumerate(group_counts(examples)):
        keep = torch.rand((SAMPLES, count), generator=generator(examples.seeds[row])) < 0.5
        after = coalition_scores(subject, examples, budget, row, keep)
        lost = before[row] - after
        shares = found.per_feature
        if shares is None:
            weights = _by_feature(examples, found, row, count, is_slope)
        else:
            weights = shares[row, :, :count].float()
        foretold = weights @ (~keep).to(weights.device, weights.dtype).T
        measures.append(float(((foretold.T - lost) ** 2).mean()))
    return measures


def sensitivity(find: Callable[[Examples], Attributed], examples: Examples, found: Attributed) -> list[float]:
    """Return for each row how much its attributions change, at most, when its input hardly does.

    The input is moved ten times by uniform noise of two hundredths of its range (see `input_range`); the
    measure is the largest distance of the attributions found there, against their own size: Captum's
    `sensitivity_max`. 0 is perfect; 1 says that they may be anything. Several targets are averaged.

    Args:
        find: the method, by which `found` was found.
    """
    count = SENSITIVITY_SAMPLES
    row = torch.arange(len(examples), device=examples.device).repeat_interleave(count)
    moved = find(examples.with_inputs(moved_inputs(examples), row))
    before = torch.cat([value.flatten(2) for value in found.values], dim=2)
    after = torch.cat([value.flatten(2) for value in moved.values], dim=2)
    size = torch.linalg.vector_norm(before, dim=2)
    way = torch.linalg.vector_norm(after - before[row], dim=2)
    shares = way / torch.where(size == 0, torch.ones_like(size), size)[row]
    most: list[float] = by_example(shares, count).amax(dim=1).mean(dim=1).tolist()
    return most


def moved_inputs(examples: Examples) -> Tensors:
    """Return the noisy inputs of all rows, ten for each, drawn from the seed of the row."""
    count = SENSITIVITY_SAMPLES
    generators = [generator(seed) for seed in examples.seeds]
    moved = []
    for tensor, baseline in zip(examples.inputs, examples.baselines, strict=True):
        shape = (count, *tensor.shape[1:])
        drawn = torch.cat([torch.rand(shape, generator=source) for source in generators]) * 2 - 1
        radius = input_range(tensor, baseline).repeat_interleave(count, dim=0) * SENSITIVITY_RADIUS
        moved.append(tensor.repeat_interleave(count, dim=0) + drawn.to(tensor.device, tensor.dtype) * radius)
    return tuple(moved)


def check_continuous(examples: Examples) -> None:
    """Check that the inputs can be moved a little.

    Raises:
        InvalidInput: they are numbers of something.
    """
    if not all(tensor.is_floating_point() for tensor in examples.inputs):
        raise InvalidInput("explain.metrics: sensitivity needs inputs of floating-point numbers")


def _by_feature(examples: Examples, found: Attributed, row: int, count: int, is_slope: bool) -> torch.Tensor:
    """Return the attributions of one row, added up by feature, [targets, features]."""
    sums = examples.inputs[0].new_zeros((examples.targets.shape[1], count + 1), dtype=torch.float32)
    for value, tensor, baseline, group in zip(
        found.values, examples.inputs, examples.baselines, examples.groups, strict=True
    ):
        shares = value[row].float()
        if is_slope:
            shares = shares * (tensor[row] - baseline[row])
        flat = group[row].flatten()
        sums.index_add_(
            1, torch.where(flat < 0, count, flat), shares.expand(-1, *tensor.shape[1:]).flatten(1)
        )
    return sums[:, :count]
