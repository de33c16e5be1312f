"""Calls a model with its arguments where it expects them, from inputs and extras in an order of their own."""

from __future__ import annotations

import dataclasses
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
        prefix = None
        if route is not None and route.head is not None:
            tail = Call(self, route.tail)
            prefix = Prefix(self.positions.index(route.position), route.head, tail, route.numbers)
        return Subject(Call(self, plain if route is None else route), kind, module, prefix=prefix)


@dataclasses.dataclass(frozen=True)
class Call:
    """A function of inputs and extras in this order; it is equal to another of the same model.

    Attributes:
        order: where they stand.
        model: takes them where it expects them.
    """

    order: Order
    model: Callable[..., Any]

    def __call__(self, *tensors: torch.Tensor) -> Any:
        """Return what the model returns."""
        return self.model(*self.order.arguments(tensors))
