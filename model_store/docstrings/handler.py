"""Serve the topic classifier: the text's way into the network is this model's own."""

from __future__ import annotations

import torch
from PIL import Image
from words import encode, load_vocabulary

from predictor.handlers.signature import SignatureHandler


class DocstringsHandler(SignatureHandler):
    """A signature model whose text input becomes word numbers."""

    def transform(self, name: str, value: Image.Image | str) -> torch.Tensor:
        """Return the text `value` as int64 [128]; raises TypeError for a picture."""
        if not isinstance(value, str):
            raise TypeError(f"input {name!r} is text, not an image")
        return encode(value, load_vocabulary())
