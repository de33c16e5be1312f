"""Measures of how well an explanation describes its model."""

from __future__ import annotations

import torch

from predictor.explain.budget import Budget
from predictor.explain.examples import Attributed, Examples, Subject
from predictor.explain.gradients import generator
from predictor.explain.perturbation import coalition_scores, group_counts, target_scores

SAMPLES = 50


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
        after = coalition_scores(subject, examples, budget, torch.full((SAMPLES,), row), keep)
        lost = before[row] - after
        shares = found.per_feature
        if shares is None:
            weights = _by_feature(examples, found, row, count, is_slope)
        else:
            weights = shares[row, :, :count].float()
        foretold = weights @ (~keep).to(weights.device, weights.dtype).T
        measures.append(float(((foretold.T - lost) ** 2).mean()))
    return measures


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
