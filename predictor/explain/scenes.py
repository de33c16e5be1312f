"""Answers about pictures that are no list of numbers, as numbers: boxes around objects, and masks of classes.

A variant of a picture hardly ever gets the same boxes, or the same mask, as the whole. What is explained is
how much of each of them is left:

* of a box, the best score among the variant's boxes of its class, times their overlap with it (intersection
  over union), as D-RISE has it (Petsiuk et al. 2021, section 3);
* of a class in a mask, the share of its pixels that keep it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from predictor.explain.explanation import Array


class Reader(Protocol):
    """Reads the answers to variants of an example as it read the answer to the example itself."""

    @property
    def example(self) -> Any:
        """The answer to the example itself."""

    @property
    def kind(self) -> str:
        """What the numbers are, if they are from 0 to 1."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the numbers; () where the answer has none."""

    @property
    def are_probabilities(self) -> bool:
        """Whether the numbers are from 0 to 1, and the greatest is that of what was predicted."""

    def read(self, answer: Any) -> list[float]:
        """Return the numbers of an answer."""

    def scores(self, answers: Sequence[Any]) -> torch.Tensor:
        """Return the numbers of all answers, float [answers, numbers]."""


@dataclasses.dataclass(frozen=True)
class _Found:
    label: str
    box: tuple[float, ...]
    score: float


class _Scene(ABC):
    """What both have in common: numbers from 0 to 1, each with a label."""

    kind = ""
    are_probabilities = True

    def __init__(self, example: Any, labels: Sequence[str]) -> None:
        self.example = example
        self.labels = tuple(labels)

    @abstractmethod
    def read(self, answer: Any) -> list[float]:
        """Return what is left of each box or class in an answer."""

    def scores(self, answers: Sequence[Any]) -> torch.Tensor:
        """Return the numbers of all answers, float [answers, numbers]."""
        return torch.tensor([self.read(answer) for answer in answers], dtype=torch.float32)


class BoxReader(_Scene):
    """Reads lists of objects with their boxes; labels are "dog 0", "cat 1", by their places in the list."""

    kind = "score"

    def __init__(self, answer: Any, found: Sequence[_Found]) -> None:
        """Look for `found`, which the answer to the whole picture holds."""
        self._wanted = found
        super().__init__(answer, [f"{one.label} {index}" for index, one in enumerate(found)])

    def read(self, answer: Any) -> list[float]:
        """Return what is left of each box; an answer that holds none at all has nothing left."""
        found = _objects(answer) or []
        return [
            max(
                (one.score * _overlap(one.box, wanted.box) for one in found if one.label == wanted.label),
                default=0,
            )
            for wanted in self._wanted
        ]


class MaskReader(_Scene):
    """Reads masks [height][width][class, score]; labels are the classes' numbers, the largest area first."""

    kind = "share"

    def __init__(self, answer: Any, mask: Array) -> None:
        """Look for the classes of `mask`, that of the whole picture."""
        self._mask = mask
        classes, counts = np.unique(mask, return_counts=True)
        self._classes = classes[np.argsort(-counts, kind="stable")]
        super().__init__(answer, [f"{number:g}" for number in self._classes.tolist()])

    def read(self, answer: Any) -> list[float]:
        """Return the share of each class's pixels that keep it; a mask of another size keeps nothing."""
        mask = _mask(answer)
        if mask is None or mask.shape != self._mask.shape:
            return [0.0] * len(self._classes)
        same = mask == self._mask
        return [float(same[self._mask == number].mean()) for number in self._classes]


def scene_reader(answer: Any) -> Reader | None:
    """Return what reads answers like this one, None if it is neither boxes nor a mask."""
    found = _objects(answer)
    if found:
        return BoxReader(answer, found)
    mask = _mask(answer)
    return None if mask is None else MaskReader(answer, mask)


def _objects(answer: Any) -> list[_Found] | None:
    """Return the objects of an answer in TorchServe's form, or torchvision's; None if it has neither."""
    if isinstance(answer, Mapping):
        columns = [answer.get(key) for key in ("labels", "boxes", "scores")]
        if not all(isinstance(column, list) for column in columns):
            return None
        rows: list[tuple[Any, Any, Any]] = list(zip(*columns, strict=False))
    elif isinstance(answer, list) and all(isinstance(item, Mapping) and len(item) == 2 for item in answer):
        rows = [
            (label, box, item.get("score"))
            for item in answer
            for label, box in item.items()
            if label != "score"
        ]
        if len(rows) != len(answer):
            return None
    else:
        return None
    good = all(_are_numbers(box, 4) and _are_numbers([score], 1) for _, box, score in rows)
    return [_Found(str(label), tuple(box), float(score)) for label, box, score in rows] if good else None


def _are_numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, (list, tuple))
        and len(values) == count
        and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    )


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes (left, top, right, bottom)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def _mask(answer: Any) -> Array | None:
    """Return the classes [height, width] of a mask as image_segmenter answers it, None for anything else."""
    if not isinstance(answer, (list, np.ndarray)):
        return None
    try:
        array = np.asarray(answer)
    except ValueError:
        return None
    if array.ndim != 3 or array.shape[2] != 2 or array.dtype.kind not in "iuf" or not array.size:
        return None
    classes = array[:, :, 0]
    return classes if np.array_equal(classes, np.round(classes)) else None
