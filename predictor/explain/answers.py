"""The numbers in a handler's answers: what is explained where nothing but answers can be had."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from predictor.errors import InvalidInput


class AnswerReader:
    """Reads the answers to variants of an example as it read the answer to the example itself.

    Attributes:
        example: the answer to the example itself.
        kind: what the numbers are, if they are from 0 to 1.
        labels: of the numbers; () where the answer has none.
        are_probabilities: all of the numbers are between 0 and 1, and add up to no more than 1.
    """

    kind = "probability"

    def __init__(self, answer: Any) -> None:
        """Look at the answer to the whole example.

        Raises:
            InvalidInput: it holds no numbers that could be explained.
        """
        found = plain_numbers(answer)
        self.example = answer
        self.labels: tuple[str, ...] = ()
        if isinstance(found, Mapping):
            self.labels = tuple(str(label) for label in found)
        values = self.read(answer)
        self._count = len(values)
        self.are_probabilities = bool(self.labels) and min(values) >= 0 and sum(values) <= 1 + 1e-3

    def read(self, answer: Any) -> list[float]:
        """Return the numbers of an answer; what a list of the best classes leaves out counts as 0.

        Raises:
            InvalidInput: it holds none.
        """
        found = plain_numbers(answer)
        if isinstance(found, Mapping):
            return [float(found.get(label, 0.0)) for label in self.labels]
        if found is None or (hasattr(self, "_count") and len(found) != self._count):
            raise InvalidInput(
                "explain: the handler's answer is no number, no list of numbers and no object of numbers by "
                "label, so there is nothing that parts of the input could speak for"
            )
        return found

    def scores(self, answers: Sequence[Any]) -> torch.Tensor:
        """Return the numbers of all answers, float [answers, numbers]."""
        return torch.tensor([self.read(answer) for answer in answers], dtype=torch.float32)


def plain_numbers(answer: Any) -> Mapping[str, float] | list[float] | None:
    """Return the numbers of a handler's answer by label, or as a list; None where there are none."""
    if isinstance(answer, (bytes, bytearray, str)):
        try:
            answer = json.loads(answer)
        except (ValueError, RecursionError):
            return None
    if hasattr(answer, "tolist"):
        answer = answer.tolist()
    if isinstance(answer, Mapping):
        inner = answer.get("probabilities", answer.get("scores"))
        if isinstance(inner, (list, Mapping)):
            return plain_numbers(inner)
        good = bool(answer) and all(_is_number(value) for value in answer.values())
        return {str(label): float(value) for label, value in answer.items()} if good else None
    if _is_number(answer):
        return [float(answer)]
    if isinstance(answer, (list, tuple)) and answer:
        if all(_is_number(value) for value in answer):
            return [float(value) for value in answer]
        return plain_numbers(answer[0]) if len(answer) == 1 else None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
