"""From attributions of tensors to the parts that a person sees: pictures, words, columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from predictor.explain.examples import Examples
from predictor.explain.explanation import Array, Feature, InputPart
from predictor.explain.reduce import per_word, reduce_channels
from predictor.explain.request import ExplainRequest
from predictor.explain.text import Word
from predictor.ipc.messages import TensorSpec

if TYPE_CHECKING:
    from predictor.explain.model import ExplainedModel


class AskedParts(Protocol):
    """What is needed of one example."""

    @property
    def request(self) -> ExplainRequest:
        """How it is explained."""

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The example, by input."""

    @property
    def texts(self) -> Mapping[str, str]:
        """Its texts, by input."""

    @property
    def words(self) -> Mapping[str, Sequence[Word]]:
        """Their words, by input."""


def describe_inputs(
    model: ExplainedModel,
    asked: AskedParts,
    slots: Sequence[int],
    examples: Examples,
    row: int,
    raw: Sequence[Array],
    shared: bool = False,
) -> tuple[tuple[InputPart, ...], tuple[Feature, ...]]:
    """Return the parts of one explanation: its inputs, or its features if all of them are scalars.

    Args:
        slots: positions of the explained inputs in the signature.
        row: of the example in the batch.
        raw: its attributions for each explained input.
        shared: the channels of a picture, and the numbers of a word, all have the same attribution.
    """
    specs = model.signature.inputs
    baselines = [_numbers(tensor[row]) for tensor in examples.baselines]
    if model.is_packed:
        columns = zip(specs, _numbers(examples.inputs[0][row]), baselines[0], raw[0], strict=True)
        return (), tuple(
            Feature(spec.name, _plain(value), _plain(start), float(weight))
            for spec, value, start, weight in columns
        )
    if all(not spec.shape for spec in specs):
        return (), tuple(
            Feature(
                specs[slot].name,
                _plain(examples.inputs[index][row].reshape(-1)[0]),
                _plain(baselines[index].reshape(-1)[0]),
                float(raw[index].reshape(-1)[0]),
            )
            for index, slot in enumerate(slots)
        )
    return tuple(
        _part(asked, specs[slot], baselines[index], raw[index], shared) for index, slot in enumerate(slots)
    ), ()


def _part(asked: AskedParts, spec: TensorSpec, baseline: Array, raw: Array, shared: bool) -> InputPart:
    name, kind = spec.name, spec.kind
    values = _numbers(asked.tensors[name])
    if kind == "image" and values.ndim == 3:
        how = asked.request.reduce
        shown = reduce_channels(raw, "channel_mean" if shared and how != "none" else how)
    elif kind == "text":
        shown = per_word(raw, shared)
    else:
        kind, shown = "tensor", raw
    return InputPart(
        name=name,
        kind=kind,
        values=values,
        baseline=baseline,
        raw=raw,
        attributions=shown,
        text=asked.texts.get(name),
        words=tuple(asked.words.get(name, ())),
    )


def _plain(value: Any) -> float:
    """Return a number as a person wrote it: 13.87, where float32 holds 13.8699999."""
    return float(f"{float(value):.7g}")


def _numbers(tensor: torch.Tensor) -> Array:
    tensor = tensor.detach().cpu()
    return tensor.float().numpy() if tensor.dtype is torch.bfloat16 else tensor.numpy()
