"""What `preprocessing:` says of pictures and texts, and pictures turned into tensors by it.

The section stands in `gpux.yml`, or under `signature:` of model-config.yaml:

    tokenizer    a tokenizer.json in the model's folder, or the name of the model that it belongs to
    max_length   tokens, at most
    resize       [width, height] to which a picture is scaled
    normalize    `imagenet`, or `custom`
    custom       mean and std of each channel; resize and crop, [width, height]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image

from predictor.handlers.inputs import SignatureError
from predictor.ipc.messages import TensorSpec

TOKENS = "input_ids"
"""The input that takes a text's tokens, by the name that exported models give it."""

_NORMALIZATIONS = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


class _Custom(msgspec.Struct, forbid_unknown_fields=True):
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None


class _Section(msgspec.Struct, forbid_unknown_fields=True):
    tokenizer: str | None = None
    max_length: int | None = None
    resize: tuple[int, int] | None = None
    normalize: str | None = None
    custom: _Custom | None = None


class Preprocessing:
    """A section, checked.

    Attributes:
        tokenizer: as it is written there, "" for none.
        max_length: of a text in tokens, 0 for no limit.
        resize: width and height, None to scale to what the input declares.
        crop: the middle that is kept afterwards; likewise.
        mean: what is taken off each channel, () for nothing.
        std: what each channel is divided by then.
    """

    def __init__(self, section: Any) -> None:
        """Read a section; None is one that says nothing.

        Raises:
            SignatureError: names the key that is wrong.
        """
        try:
            found = msgspec.convert({} if section is None else section, _Section)
        except msgspec.ValidationError as error:
            raise SignatureError(f"preprocessing: {error}") from error
        custom = found.custom or _Custom()
        self.tokenizer = found.tokenizer or ""
        self.max_length = found.max_length or 0
        self.resize = found.resize or custom.resize
        self.crop = custom.crop
        self.mean, self.std = _normalization(found.normalize, custom)
        sizes = [*(self.resize or ()), *(self.crop or ()), found.max_length or 1]
        if any(size < 1 for size in sizes) or any(value == 0 for value in self.std):
            raise SignatureError("preprocessing: sizes must be positive, and std not zero")

    def check(self, specs: Sequence[TensorSpec]) -> None:
        """Check the section against the pictures that a model declares.

        Raises:
            SignatureError: they do not fit each other.
        """
        for spec in specs:
            if spec.kind != "image" or len(spec.shape) != 3:
                continue
            channels, height, width = spec.shape
            if self.mean and len(self.mean) not in (1, 3 if channels < 0 else channels):
                raise SignatureError(
                    f"preprocessing.normalize is for {len(self.mean)} channels, '{spec.name}' has {channels}"
                )
            made = self.crop or self.resize
            if made and any(0 < want > got for want, got in zip((width, height), made, strict=True)):
                raise SignatureError(
                    f"preprocessing makes pictures of {list(made)}, too small for '{spec.name}'"
                )

    def picture(self, spec: TensorSpec, picture: Image.Image) -> torch.Tensor:
        """Return a picture as the tensor [channels, height, width] that `spec` declares.

        Its numbers are between 0 and 1 unless they are normalized.
        """
        channels, height, width = spec.shape
        picture = picture.convert("L" if channels == 1 else "RGB")
        declared = (width if width > 0 else picture.width, height if height > 0 else picture.height)
        picture = picture.resize(self.resize or declared, Image.Resampling.BILINEAR)
        if self.crop:
            picture = _middle(picture, self.crop)
        picture = _middle(picture, (width, height))
        pixels = np.asarray(picture, dtype=np.float32).reshape(picture.height, picture.width, -1) / 255.0
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
        if self.mean:
            mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
            tensor = (tensor - mean) / std
        return tensor


def _middle(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cut the middle of `size` out of a picture; an axis that is smaller, or -1, stays as it is."""
    width, height = (
        min(want, got) if want > 0 else got for want, got in zip(size, picture.size, strict=True)
    )
    if (width, height) == picture.size:
        return picture
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _normalization(name: str | None, custom: _Custom) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if name not in (None, "custom"):
        if name not in _NORMALIZATIONS:
            known = ", ".join((*_NORMALIZATIONS, "custom"))
            raise SignatureError(f"preprocessing.normalize: unknown '{name}'; known are {known}")
        return _NORMALIZATIONS[name]
    if len(custom.mean) != len(custom.std) or (name == "custom" and not custom.mean):
        raise SignatureError("preprocessing.custom needs mean and std, of the same length")
    return custom.mean, custom.std
