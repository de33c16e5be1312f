"""From text to the network's word numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

LENGTH = 128
"""Words of a text that the network sees; the rest is cut off."""
PADDING = 0
UNKNOWN = 1
_WORD = re.compile("[A-Za-z]+")


def tokenize(text: str) -> list[tuple[str, int, int]]:
    """Return (word, start, end) of every run of ASCII letters, the word in lower case.

    ``text[start:end]`` is the word as written. Nothing is cut at LENGTH or checked against
    the vocabulary. ``read_file`` is two words.
    """
    return [(match.group().lower(), match.start(), match.end()) for match in _WORD.finditer(text)]


def encode(text: str, vocabulary: Mapping[str, int]) -> torch.Tensor:
    """Return the numbers of the first 128 words, int64 [128], 1 for an unknown word, padded with 0."""
    numbers = [vocabulary.get(word, UNKNOWN) for word, _, _ in tokenize(text)[:LENGTH]]
    return torch.tensor(numbers + [PADDING] * (LENGTH - len(numbers)), dtype=torch.int64)


@cache
def load_vocabulary() -> dict[str, int]:
    """Return word -> number, from 2 on, as read from ``vocab.json`` beside this file; callers share it."""
    text = Path(__file__).with_name("vocab.json").read_text(encoding="utf-8")
    vocabulary: dict[str, int] = json.loads(text)
    return vocabulary
