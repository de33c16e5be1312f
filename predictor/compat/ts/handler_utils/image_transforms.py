"""What torchvision's image transforms do, with Pillow and torch alone and to the last bit.

The built-in image handlers use these, so that a server without torchvision can run them. Sizes are in
pixels, tensors float32 of shape [channels, height, width].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image

_DIRECT = {"I": torch.int32, "I;16": torch.int16, "F": torch.float32}
"""Pillow modes whose pixels are no bytes; like torchvision these are not scaled."""


class Compose:
    """Applies transforms one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        """Keep `transforms` in order."""
        self.transforms = list(transforms)

    def __call__(self, image: Any) -> Any:
        """Return `image` after all transforms."""
        for transform in self.transforms:
            image = transform(image)
        return image


class ConvertRGB:
    """Turns any Pillow image into RGB; one that already is passes through."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the image in mode RGB."""
        return image if image.mode == "RGB" else image.convert("RGB")


class Resize:
    """Scales the shorter side to `size`, keeping the aspect ratio, bilinear with antialiasing."""

    def __init__(self, size: int) -> None:
        """`size` is the new length of the shorter side."""
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the scaled image."""
        width, height = image.size
        long = int(self.size * max(width, height) / min(width, height))
        size = (self.size, long) if width <= height else (long, self.size)
        return image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)


class CenterCrop:
    """Cuts the middle out; where the image is too small the rest is black."""

    def __init__(self, size: int) -> None:
        """`size` is the width and the height of the result."""
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return an image of `size` x `size`."""
        left, top = (self._offset(length) for length in image.size)
        return image.crop((left, top, left + self.size, top + self.size))

    def _offset(self, length: int) -> int:
        if length < self.size:
            return -((self.size - length) // 2)
        return round((length - self.size) / 2.0)


class ToTensor:
    """Turns a Pillow image into a tensor, bytes scaled to 0..1."""

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return shape [channels, height, width]."""
        direct = _DIRECT.get(image.mode)
        if image.mode == "1":
            image = image.convert("L")
        raw = torch.frombuffer(bytearray(image.tobytes()), dtype=direct or torch.uint8)
        pixels = raw.view(image.height, image.width, len(image.getbands())).permute(2, 0, 1).contiguous()
        return pixels if direct is not None else pixels.to(torch.float32).div(255)


class Normalize:
    """Subtracts a mean and divides by a standard deviation, per channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """One value per channel each."""
        self.mean = list(mean)
        self.std = list(std)

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a new tensor; RuntimeError when the channels do not match."""
        mean, std = (torch.tensor(v, dtype=tensor.dtype).view(-1, 1, 1) for v in (self.mean, self.std))
        return tensor.clone().sub_(mean).div_(std)


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def imagenet_transform() -> Compose:
    """Return the preprocessing of models trained on ImageNet: RGB, 256, middle 224, normalised."""
    steps: list[Callable[[Any], Any]] = [
        ConvertRGB(),
        Resize(256),
        CenterCrop(224),
        ToTensor(),
        Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    return Compose(steps)
