"""Serve the digit reader: the picture's way into the network is this model's own."""

from __future__ import annotations

import torch
from PIL import Image
from transform import to_tensor

from predictor.handlers.signature import SignatureHandler


class DigitsHandler(SignatureHandler):
    """A signature model whose image input is cropped to the ink and centred."""

    def transform(self, name: str, value: Image.Image | str) -> torch.Tensor:
        """Return the decoded picture `value` as float32 [1, 28, 28]; raises TypeError for text."""
        if isinstance(value, str):
            raise TypeError(f"input {name!r} is an image, not text")
        return to_tensor(value)
