"""Methods that switch parts of an input off and watch the output: they work on anything callable."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from predictor.errors import InvalidInput
from predictor.explain.budget import Budget
from predictor.explain.examples import Attributed, Examples, Subject, Tensors, evaluate, pick
from predictor.explain.methods import Args


def feature_ablation(subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Return for each number what the target loses when the number's feature is switched off."""
    counts = group_counts(examples)
    row = torch.arange(len(examples)).repeat_interleave(torch.tensor(counts))
    group = torch.cat([torch.arange(count) for count in counts])
    keep = torch.ones(len(row), max(counts, default=0), dtype=torch.bool)
    keep[torch.arange(len(row)), group] = False
    after = coalition_scores(subject, examples, budget, row, keep)
    before = target_scores(subject, examples, budget)
    device = examples.device
    losses = before.new_zeros((len(examples), examples.targets.shape[1], keep.shape[1]))
    losses[row.to(device), :, group.to(device)] = before[row.to(device)] - after
    return by_feature(losses, examples)


def target_scores(subject: Subject, examples: Examples, budget: Budget) -> torch.Tensor:
    """Return the outputs for the targets at the inputs, [rows, targets]."""
    scores = evaluate(subject, examples.inputs, examples.extras, examples.owners, budget)
    return scores.gather(1, examples.targets)


def group_counts(examples: Examples) -> list[int]:
    """Return how many features each row has."""
    largest = torch.stack([group.flatten(1).amax(dim=1) for group in examples.groups]).amax(dim=0)
    return [int(number) + 1 for number in largest.tolist()]


def coalition_scores(
    subject: Subject, examples: Examples, budget: Budget, row: torch.Tensor | int, keep: torch.Tensor
) -> torch.Tensor:
    """Return the outputs for the targets when only some features are as in the input.

    Args:
        row: which row of the examples each coalition is of, int64 [coalitions]; a number for one of all.
        keep: which features it keeps, bool [coalitions, features]; the others have their baseline.

    Returns:
        [coalitions, targets].
    """
    device = examples.device
    keep = keep.to(device)
    # One more column, for what belongs to no feature and always stays: index -1.
    keep = torch.cat([keep, keep.new_ones((len(keep), 1))], dim=1)
    parts = [torch.empty((0, examples.targets.shape[1]), device=device)]
    for part in budget.chunks(len(keep), examples.numbers, device):
        if isinstance(row, int):
            inputs = _blend_one(examples, row, keep[part])
            rows = torch.full((len(inputs[0]),), row, device=device)
        else:
            rows = row[part].to(device)
            inputs = _blend(examples, rows, keep[part])
        parts.append(_scores(subject, examples, budget, inputs, rows))
    return torch.cat(parts)


def _blend(examples: Examples, rows: torch.Tensor, keep: torch.Tensor) -> Tensors:
    """Return the inputs of `rows` where features are kept, and their baselines elsewhere."""
    return tuple(
        torch.where(_lookup(keep, group[rows]), tensor[rows], baseline[rows])
        for tensor, baseline, group in zip(examples.inputs, examples.baselines, examples.groups, strict=True)
    )


def _blend_one(examples: Examples, row: int, keep: torch.Tensor) -> Tensors:
    """Do the same for coalitions of one row, without a copy of it for each of them."""
    blended = []
    for tensor, baseline, group in zip(examples.inputs, examples.baselines, examples.groups, strict=True):
        kept = keep[:, group[row].flatten()].reshape(len(keep), *tensor.shape[1:])
        blended.append(torch.where(kept, tensor[row], baseline[row]))
    return tuple(blended)


def _lookup(keep: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    flat = groups.flatten(1)
    flat = torch.where(flat < 0, keep.shape[1] - 1, flat)
    return keep.gather(1, flat).reshape(groups.shape)


def _scores(
    subject: Subject, examples: Examples, budget: Budget, inputs: Tensors, rows: torch.Tensor
) -> torch.Tensor:
    owners = examples.owners[rows.to(examples.owners.device)]
    scores = evaluate(subject, inputs, pick(examples.extras, rows), owners, budget)
    return scores.gather(1, examples.targets[rows])


def by_feature(per_feature: torch.Tensor, examples: Examples) -> Attributed:
    """Return the attributions of features, [rows, targets, features], as a method's answer."""
    return Attributed(to_numbers(per_feature, examples), per_feature=per_feature, shared=True)


def to_numbers(per_feature: torch.Tensor, examples: Examples) -> Tensors:
    """Give every number of the inputs the attribution of its feature.

    Args:
        per_feature: [rows, targets, features].
    """
    padded = torch.cat([per_feature, per_feature.new_zeros((*per_feature.shape[:2], 1))], dim=2)
    values = []
    for group in examples.groups:
        flat = group.flatten(1)
        flat = torch.where(flat < 0, padded.shape[2] - 1, flat).unsqueeze(1).expand(-1, padded.shape[1], -1)
        values.append(padded.gather(2, flat).reshape(len(group), padded.shape[1], *group.shape[1:]))
    return tuple(values)


def occlusion(subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Slide a square of baseline over the picture; each pixel gets the mean loss of the squares over it."""
    picture = next(index for index, tensor in enumerate(examples.inputs) if tensor.dim() == 4)
    tensor = examples.inputs[picture]
    height, width = tensor.shape[2:]
    places, window = places_of(height, width, args)
    before = target_scores(subject, examples, budget)
    losses = tensor.new_zeros((len(tensor), examples.targets.shape[1], height, width))
    covered = tensor.new_zeros((height, width))
    for top, left in places:
        covered[top : top + window, left : left + window] += 1
    count = len(places)
    for part in budget.chunks(len(tensor) * count, examples.numbers, examples.device):
        rows = [index // count for index in range(part.start, part.stop)]
        squares = [places[index % count] for index in range(part.start, part.stop)]
        row = torch.tensor(rows, device=examples.device)
        inputs = [some[row] for some in examples.inputs]
        for position, (top, left) in enumerate(squares):
            square = (slice(None), slice(top, top + window), slice(left, left + window))
            inputs[picture][position][square] = examples.baselines[picture][rows[position]][square]
        lost = before[row] - _scores(subject, examples, budget, tuple(inputs), row)
        for position, (top, left) in enumerate(squares):
            area = losses[rows[position], :, top : top + window, left : left + window]
            area += lost[position].reshape(-1, 1, 1)
    values = [some.new_zeros((len(some), losses.shape[1], *some.shape[1:])) for some in examples.inputs]
    values[picture] = (losses / covered).unsqueeze(2).expand_as(values[picture])
    return Attributed(tuple(values), shared=True)


def places_of(height: int, width: int, args: Args) -> tuple[list[tuple[int, int]], int]:
    """Return the top left corners of occlusion's squares, and their side.

    Raises:
        InvalidInput: a square does not fit into the picture, or leaves out what lies before the next.
    """
    side = min(height, width)
    window = _length(args, "window", max(1, round(side / 7)), side, "the shorter side of the picture")
    stride = _length(args, "stride", min(max(1, round(side / 14)), window), window, "the window")
    return list(_places(height, width, window, stride)), window


def _length(args: Args, name: str, auto: int, most: int, whose: str) -> int:
    """Return an argument in pixels; `auto` where the client leaves it to us, and `most` is the length of."""
    given = auto if args[name] == "auto" else int(args[name])
    if given > most:
        raise InvalidInput(f"explain.args.{name} must be at most {most}, {whose}; got {given}")
    return given


def _places(height: int, width: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield the top left corners of the squares; the last of a line may hang over the edge."""
    for top in range(math.ceil((height - window) / stride) + 1):
        for left in range(math.ceil((width - window) / stride) + 1):
            yield top * stride, left * stride
