"""Handlers that declare nothing, made to look like those that do, so that the same methods explain them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from predictor.explain.text import Word
from predictor.handlers.tensors import Table
from predictor.ipc.messages import TensorSpec

Model = Callable[..., torch.Tensor]


@dataclasses.dataclass(frozen=True)
class AdoptedSignature:
    """What a signature tells, found out from an example.

    Attributes:
        inputs: of the model.
        labels: names of its outputs, () where they are not known.
        is_classifier: its outputs are, or become, probabilities.
        pack_inputs: the inputs are columns of one tensor.
    """

    inputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    is_classifier: bool = False
    pack_inputs: bool = False

    @property
    def output_names(self) -> tuple[str, ...]:
        """Nothing, because a single tensor is explained."""
        return ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels of a classifier, () for other models."""
        return self.labels if self.is_classifier else ()


@dataclasses.dataclass
class Adopted:
    """A model and the example at hand, as explanations ask for them.

    Attributes:
        model: a module, or a function of tensors with a leading batch axis.
        signature: what it takes and gives.
        device: where its tensors are.
        tensors: the example, by input, without batch axis.
        sentence: the example, where it is a text whose words are switched off.
        spoken: its words.
        gives_probabilities: the outputs are probabilities already, or anything else from 0 to 1.
        output_kind: what they are then, for people.
        has_state: the function is half of what the handler does for a batch, and may depend on what the other
            half has left behind: no other batch may come between its calls.
        others: more examples like `tensors`, where the row holds several.
    """

    model: Any
    signature: AdoptedSignature
    device: torch.device
    tensors: Mapping[str, torch.Tensor]
    sentence: str | None = None
    spoken: Sequence[Word] = ()
    gives_probabilities: bool = False
    output_kind: str = "probability"
    has_state: bool = False
    others: Sequence[Mapping[str, torch.Tensor]] = ()

    def embedding(self, model: Any) -> None:
        """Know nothing of embeddings."""

    def example(self, row: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
        """Return the example at hand; the row has been read to make it."""
        return self.tensors

    def examples(self, table: Table) -> list[tuple[Mapping[str, torch.Tensor], dict[str, str]]]:
        """Return the examples at hand, each with its texts; the row has been read to make them."""
        return [(tensors, self.texts({})) for tensors in (self.tensors, *self.others)]

    def texts(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return the text of the example, by input."""
        return {} if self.sentence is None else {self.signature.inputs[0].name: self.sentence}

    def words(self, name: str, text: str) -> Sequence[Word]:
        """Return the words of the example."""
        return self.spoken

    def collate(self, examples: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
        """Stack examples into the model's arguments."""
        names = [spec.name for spec in self.signature.inputs]
        if self.signature.pack_inputs:
            rows = [torch.stack([example[name] for name in names]) for example in examples]
            return [torch.stack(rows).to(self.device)]
        return [torch.stack([example[name] for example in examples]).to(self.device) for name in names]
