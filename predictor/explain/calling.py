"""Calls a model with its arguments where it expects them, from inputs and extras in an order of their own."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from predictor.explain.examples import Prefix, Subject
from predictor.explain.shadow import ModelKind
from predictor.explain.shortcut import Route


@dataclasses.dataclass(frozen=True)
class Order:
    """Where inputs and extras stand among a model's arguments.

    Attributes:
        positions: of each input, then of each extra.
        scalars: positions of arguments [rows], which inputs and extras hold as [rows, 1].
    """

    positions: tuple[int, ...]
    scalars: frozenset[int]

    def arguments(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        """Return the model's arguments; None for those that are left out."""
        given = dict(zip(self.positions, tensors, strict=True))
        found = [given.get(position) for position in range(max(self.positions) + 1)]
        return [
            tensor.squeeze(1) if tensor is not None and position in self.scalars else tensor
            for position, tensor in enumerate(found)
        ]

    def subject(
        self, plain: Callable[..., Any], route: Route | None, kind: ModelKind, module: torch.nn.Module | None
    ) -> Subject:
        """Return the model as methods call it: by the faster `route`, if there is one, else by `plain`."""
        forward = functools.partial(self._call, plain if route is None else route)
        prefix = None
        if route is not None and route.head is not None:
            tail = functools.partial(self._call, route.tail)
            prefix = Prefix(self.positions.index(route.position), route.head, tail, route.numbers)
        return Subject(forward, kind, module, prefix=prefix)

    def _call(self, model: Callable[..., Any], *tensors: torch.Tensor) -> Any:
        return model(*self.arguments(tensors))
