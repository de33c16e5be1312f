"""What a model answers, as the numbers that an explanation chooses its target from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Reading = Callable[[Any], torch.Tensor]
"""Makes a tensor with a leading batch axis of what a model answers."""


class OutputReader:
    """Takes the tensor that is explained out of what a model answers.

    Attributes:
        labels: of the numbers in the last tensor that was read; before, those that are declared.
        without_gradients: places of the numbers in it that have none, where others have: whole numbers, say.
    """

    without_gradients: frozenset[int] = frozenset()

    def __init__(self, names: Sequence[str] = (), are_labels: bool = False) -> None:
        """Read the first of several outputs, or all of them.

        Args:
            names: of the outputs, in the order in which they are declared.
            are_labels: each is declared as a single number. A declaration may say nothing of shapes, so that
                the model has the last word: all are read where all are single numbers.
        """
        self._names = tuple(names)
        self._are_labels = are_labels
        self.labels = self._names if are_labels else ()

    def __call__(self, output: Any) -> torch.Tensor:
        """Return a tensor with a leading batch axis; [rows, outputs] where several are read."""
        if isinstance(output, Mapping):
            values = [output[name] for name in self._names if name in output] or list(output.values())
        else:
            values = list(output) if isinstance(output, (tuple, list)) else [output]
        is_labelled = self._are_labels and len(values) == len(self._names)
        is_labelled = is_labelled and all(_is_one_number(value) for value in values)
        self.labels = self._names if is_labelled else ()
        self.without_gradients = frozenset()
        if is_labelled and len(values) > 1:
            followed = [value.requires_grad for value in values]
            if any(followed):
                self.without_gradients = frozenset(place for place, has in enumerate(followed) if not has)
            return torch.stack([value.reshape(-1) for value in values], dim=1)
        first: torch.Tensor = values[0]
        return first


def first_output(output: Any) -> torch.Tensor:
    """Return what a model answers, the first where it answers several tensors."""
    return OutputReader()(output)


def _is_one_number(value: Any) -> bool:
    """Return whether a value holds one number for each row."""
    return isinstance(value, torch.Tensor) and value.dim() > 0 and value.numel() == len(value)
