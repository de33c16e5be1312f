"""Features for methods that switch things off: columns, words, or squares of a picture."""

from __future__ import annotations

import math

import torch

# More features than this, and a plain tensor is cut into as many runs of neighbours.
_MAX_FEATURES = 256


def by_square(shape: torch.Size, grid: int) -> torch.Tensor:
    """Return the features of a picture [channels, height, width]: squares of a grid, in all channels."""
    _, height, width = shape
    down, across = min(grid, height), min(grid, width)
    row = torch.arange(height) * down // height
    column = torch.arange(width) * across // width
    return (row.unsqueeze(1) * across + column).expand(shape).contiguous()


def by_position(shape: torch.Size, present: torch.Tensor) -> torch.Tensor:
    """Return the features of a text [positions, ...]: its words; positions that hold none are -1."""
    number = torch.where(present, torch.cumsum(present.long(), dim=0) - 1, -1)
    return number.reshape(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()


def by_number(shape: torch.Size) -> torch.Tensor:
    """Return the features of a tensor: its numbers, or runs of them where they are too many."""
    count = math.prod(shape)
    number = torch.arange(count)
    if count > _MAX_FEATURES:
        number = number * _MAX_FEATURES // count
    return number.reshape(shape)


def join(groups: list[torch.Tensor]) -> list[torch.Tensor]:
    """Count the features of several inputs on from one to the next."""
    start = 0
    joined = []
    for group in groups:
        joined.append(torch.where(group < 0, group, group + start))
        start += int(group.max()) + 1 if group.numel() else 0
    return joined
