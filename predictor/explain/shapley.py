"""Shapley values: exact by trying every coalition of features, or estimated from random ones."""

from __future__ import annotations

import functools
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
        keep, weights = (tensor.to(examples.device) for tensor in _coalitions(count))
        worth = coalition_scores(subject, examples, budget, row, keep)
        found.append((weights @ worth.double()).T)
    return by_feature(_padded(found, examples), examples)


@functools.lru_cache(maxsize=4)
def _coalitions(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all coalitions of `count` features, and what the worth of each adds to every feature's share.

    Returns:
        Members, bool [2^count, count], and weights, float64 [count, 2^count]; of 16 features 1 and 8 MB.
    """
    numbers = torch.arange(2**count)
    keep = (numbers.unsqueeze(1) >> torch.arange(count)) & 1 == 1
    size = keep.sum(dim=1)
    # A coalition of s features speaks for its members with 1 / (n C(n-1, s-1)), against others with
    # 1 / (n C(n-1, s)).
    factors = [1 / (count * math.comb(count - 1, members)) for members in range(count)]
    joined = torch.tensor([0.0, *factors], dtype=torch.float64)[size]
    left = torch.tensor([*factors, 0.0], dtype=torch.float64)[size]
    return keep, torch.where(keep.T, joined, -left).contiguous()


def kernel_shap(subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Estimate Shapley values by a linear fit to the outputs of random coalitions.

    The fit adds up exactly to the difference of output and baseline output.
    """
    counts = group_counts(examples)
    found = []
    for row, count in enumerate(counts):
        keep = draw_coalitions(count, int(args["n_samples"]), generator(examples.seeds[row]))
        worth = coalition_scores(subject, examples, budget, row, keep)
        found.append(_fit(keep.to(worth.device), worth.double()))
    return by_feature(_padded(found, examples), examples)


def draw_coalitions(count: int, samples: int, source: torch.Generator) -> torch.Tensor:
    """Return `samples` coalitions, bool [samples, count]: all, none, and others as often as their weight.

    The size s of the others is drawn by 1 / (s (count - s)), their members evenly.
    """
    ends = torch.tensor([[True] * count, [False] * count], dtype=torch.bool)
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
        return whole.unsqueeze(1)[:, :count]
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
