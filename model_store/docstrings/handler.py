"""Serve the topic classifier: the text's way into the network is this model's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from words import LENGTH, PADDING, encode, load_vocabulary, tokenize

from predictor.explain.text import Embedding, Word
from predictor.handlers.signature import SignatureHandler


class DocstringsHandler(SignatureHandler):
    """A signature model whose text input becomes word numbers, and whose explanations name the words."""

    def transform(self, name: str, value: Image.Image | str) -> torch.Tensor:
        """Return the text `value` as int64 [128]; raises TypeError for a picture."""
        if not isinstance(value, str):
            raise TypeError(f"input {name!r} is text, not an image")
        return encode(value, load_vocabulary())

    def words(self, name: str, text: str) -> Sequence[Word]:
        """Return the words that the network sees, and where they stand in `text`."""
        return tokenize(text)[:LENGTH]

    def embedding(self, model: torch.nn.Module) -> Embedding:
        """Return the network's halves: word numbers to embeddings, and these to logits."""
        network: Any = model

        def look_up(arguments: Sequence[torch.Tensor]) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
            return network.embedding(arguments[0]), (arguments[0] != PADDING,)

        return Embedding(look_up, network.from_embeddings)
