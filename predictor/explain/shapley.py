"""Shapley values: exact by trying every coalition of features, or estimated from random ones."""

from __future__ import annotations

import math

import torch

from predictor.errors import InvalidInput
from predictor.explain.budget import Budget
from predictor.explain.examples import Attributed, Examples, Subject
from predictor.explain.gradients import generator
from predictor.explain.methods import MAX_SHAPLEY_PLAYERS, Args
from predictor.explain.perturbation import by_feature, coalition_scores, group_counts


def shapley_exact(subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Return the Shapley values of all features, from the outputs of all 2^features coalitions.

    Raises:
        InvalidInput: there are too many features.
    """
    counts = group_counts(examples)
    if max(counts) > MAX_SHAPLEY_PLAYERS:
        raise InvalidInput(
            f"shapley_exact takes at most {MAX_SHAPLEY_PLAYERS} features, got {max(counts)}; use kernel_shap"
        )
    found = []
    for row, count in enumerate(counts):
        numbers = torch.arange(2**count, device=examples.device)
        keep = (numbers.unsqueeze(1) >> torch.arange(count, device=examples.device)) & 1 == 1
        worth = coalition_scores(subject, examples, budget, numbers.new_full((len(numbers),), row), keep)
        found.append(_shares(worth.double(), count))
    return by_feature(_padded(found, examples), examples)


def _shares(worth: torch.Tensor, count: int) -> torch.Tensor:
    """Return the Shapley values [targets, features] from the worth [2^features, targets] of coalitions.

    A coalition's number has bit i set when it holds feature i.
    """
    device = worth.device
    factors = [1 / (count * math.comb(count - 1, size)) for size in range(count)]
    factor = torch.tensor(factors, dtype=worth.dtype, device=device)
    shares = []
    for feature in range(count):
        # [coalitions of later features, without or with this one, of earlier features, targets]
        halves = worth.reshape(2 ** (count - 1 - feature), 2, 2**feature, -1)
        gain = (halves[:, 1] - halves[:, 0]).flatten(0, 1)
        shares.append((gain * factor[_sizes(count - 1, device)].unsqueeze(1)).sum(dim=0))
    return torch.stack(shares, dim=1)


def _sizes(count: int, device: torch.device) -> torch.Tensor:
    """Return the number of members of each of the 2^count coalitions."""
    sizes = torch.zeros(1, dtype=torch.int64, device=device)
    for _ in range(count):
        sizes = torch.cat([sizes, sizes + 1])
    return sizes


def kernel_shap(subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Estimate Shapley values by a linear fit to the outputs of random coalitions.

    The fit adds up exactly to the difference of output and baseline output.
    """
    counts = group_counts(examples)
    found = []
    for row, count in enumerate(counts):
        keep = draw_coalitions(count, int(args["n_samples"]), generator(examples.seeds[row]))
        worth = coalition_scores(subject, examples, budget, torch.full((len(keep),), row), keep)
        found.append(_fit(keep.to(worth.device), worth.double()))
    return by_feature(_padded(found, examples), examples)


def draw_coalitions(count: int, samples: int, source: torch.Generator) -> torch.Tensor:
    """Return `samples` coalitions, bool [samples, count]: all, none, and others as often as their weight.

    The size s of the others is drawn by 1 / (s (count - s)), their members evenly.
    """
    ends = torch.tensor([[True] * count, [False] * count])
    if count < 2:
        return ends
    sizes = torch.arange(1, count, dtype=torch.float64)
    drawn = torch.multinomial(1 / (sizes * (count - sizes)), samples - 2, replacement=True, generator=source)
    places = torch.rand((samples - 2, count), generator=source).argsort(dim=1).argsort(dim=1)
    return torch.cat([ends, places <= drawn.unsqueeze(1)])


def _fit(keep: torch.Tensor, worth: torch.Tensor) -> torch.Tensor:
    """Return the linear worths [targets, features] of features that fit those of coalitions best.

    The first coalition holds all features and the second none; these two are met exactly.
    """
    count = keep.shape[1]
    whole = worth[0] - worth[1]
    if count < 2:
        return whole.unsqueeze(1)
    members = keep[2:].double()
    # Every share is the even one plus something that adds up to nothing.
    even = whole / count
    apart = torch.eye(count, dtype=torch.float64, device=keep.device) - 1 / count
    rest = worth[2:] - worth[1] - members.sum(dim=1, keepdim=True) * even
    # The pseudoinverse gives the smallest of many fits when there are few coalitions.
    solution = torch.linalg.pinv(members @ apart) @ rest
    shares: torch.Tensor = (apart @ solution + even).T
    return shares


def _padded(shares: list[torch.Tensor], examples: Examples) -> torch.Tensor:
    """Stack [targets, features] of rows with different numbers of features; float as the inputs are."""
    widest = max(share.shape[1] for share in shares)
    dtype = examples.inputs[0].dtype
    rows = [torch.nn.functional.pad(share, (0, widest - share.shape[1])) for share in shares]
    return torch.stack(rows).to(dtype if dtype.is_floating_point else torch.float32)
