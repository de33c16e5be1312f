"""How a text model lets itself be explained: by the embeddings of its words instead of their numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

Word = tuple[str, int, int]
"""A word, and where it starts and ends in the text."""


@dataclasses.dataclass(frozen=True)
class Embedding:
    """The two halves of a model whose inputs are numbers of words.

    Attributes:
        look_up: from the model's arguments (each with a batch axis) to the embeddings
            [rows, positions, size], and to whatever else the second half needs, each [rows, ...].
        forward: from these, in this order, to the model's output.
    """

    look_up: Callable[[Sequence[torch.Tensor]], tuple[torch.Tensor, tuple[torch.Tensor, ...]]]
    forward: Callable[..., Any]
