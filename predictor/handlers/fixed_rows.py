"""Programs that were made for batches of one size, called with batches of any."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from predictor.explain.shadow import ModelKind, kind_of


class FixedRows(torch.nn.Module):
    """Calls a program made for batches of exactly `rows` with batches of any size.

    Its last batch is filled up by repeating the last row, whose further answers are dropped.
    """

    def __init__(self, program: torch.nn.Module, rows: int) -> None:
        super().__init__()
        self.program = program
        self.rows = rows

    @property
    def model_kind(self) -> ModelKind:
        """What explanations may ask of it: as much as of the program."""
        return kind_of(self.program)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return the outputs of all rows."""
        total = len(inputs[0])
        # An empty batch is computed, too: its outputs have shapes, though no rows.
        starts = range(0, max(total, 1), self.rows)
        parts = [self.program(*(self._rows(tensor, start) for tensor in inputs)) for start in starts]
        return pytree.tree_map(lambda *tensors: torch.cat(tensors)[:total], *parts)

    def _rows(self, tensor: torch.Tensor, start: int) -> torch.Tensor:
        part = tensor[start : start + self.rows]
        missing = self.rows - len(part)
        if not missing:
            return part
        last = part[-1:] if len(part) else tensor.new_zeros((1, *tensor.shape[1:]))
        return torch.cat([part, last.expand(missing, *tensor.shape[1:])])


def takes_any_rows(model: Any) -> Any:
    """Return a model that takes any number of rows, made of an exported program that takes only one number.

    Whatever else a model is, it is returned as it is.
    """
    if not isinstance(model, fx.GraphModule):
        return model
    values = [node.meta.get("val") for node in model.graph.nodes if node.op == "placeholder"]
    sizes: list[Any] = [value.shape[0] for value in values if isinstance(value, torch.Tensor) and value.dim()]
    if not sizes or len(sizes) < len(values) or len(set(map(str, sizes))) > 1:
        return model
    return FixedRows(model, sizes[0]) if isinstance(sizes[0], int) else model
