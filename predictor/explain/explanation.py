"""One explanation, found but not yet written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from predictor.explain.text import Word

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class InputPart:
    """One input's share of an explanation.

    Attributes:
        name: of the input.
        kind: image, text or tensor.
        values: the input as the model saw it, without batch axis.
        baseline: what it was compared with; embeddings for a text that is explained by them.
        raw: one attribution for each number, float32; a picture's may have a single channel.
        attributions: those that are shown: one for each pixel, or word, or number.
        text: the text, where the input was one.
        words: the words that the positions of the attributions stand for.
    """

    name: str
    kind: str
    values: Array
    baseline: Array
    raw: Array
    attributions: Array
    text: str | None = None
    words: tuple[Word, ...] = ()


@dataclasses.dataclass(frozen=True)
class Feature:
    """One column of a table, its value and its share."""

    name: str
    value: float
    baseline: float
    attribution: float


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why a model gave an example the output that it gave.

    Attributes:
        method: its name.
        has_delta: the method promises that attributions add up to `output - baseline_output`.
        kind: what `output` is: logit, probability, or value for models that do not classify.
        target: index of the explained output.
        predicted: index of the most probable output.
        labels: of the outputs, whether they are classes or not; empty where they have none.
        score: probability of the predicted class, None without classes.
        target_score: probability of the explained class, likewise.
        output: of the target, at the input.
        baseline_output: of the target, at the baseline.
        total: sum of all attributions.
        size: sum of their absolute values.
        inputs: in the order of the signature; empty names are never there.
        features: the inputs as columns, for models of packed or scalar inputs.
        cost: forward and backward rows, and milliseconds of the batch that it was computed in.
        metrics: measures of its quality by name.
    """

    method: str
    has_delta: bool
    kind: str
    target: int
    predicted: int
    labels: tuple[str, ...]
    score: float | None
    target_score: float | None
    output: float
    baseline_output: float
    total: float
    size: float
    inputs: tuple[InputPart, ...]
    features: tuple[Feature, ...]
    n_steps: int | None
    converged: bool | None
    cost: Mapping[str, float]
    metrics: Mapping[str, float]

    @property
    def delta(self) -> float:
        """What the attributions have too much or too little."""
        return self.total - (self.output - self.baseline_output)

    @property
    def relative_delta(self) -> float:
        """The delta's size, measured against the difference of the outputs; see `relative_delta`."""
        measure = max(abs(self.output - self.baseline_output), 0.1 * self.size, 1e-12)
        return abs(self.delta) / measure

    @property
    def target_label(self) -> str:
        """The target's label, or "output 3"."""
        return self._label(self.target)

    @property
    def predicted_label(self) -> str:
        """The predicted class's label, or "output 3"."""
        return self._label(self.predicted)

    def _label(self, index: int) -> str:
        return self.labels[index] if index < len(self.labels) else f"output {index}"


def word_weights(part: InputPart) -> list[tuple[Word, float]]:
    """Return the words of a text with their attributions; words that the model did not see are left out."""
    weights = part.attributions.tolist()
    return list(zip(part.words, weights[: len(part.words)], strict=False))


def sizes(array: Array) -> float:
    """Return the largest absolute value, 0 for nothing."""
    return float(np.abs(array).max()) if array.size else 0.0
