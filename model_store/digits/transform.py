"""From any picture of one digit to the network's input: ink on paper, cropped, scaled and centred.

Training and serving both go through :func:`to_tensor`, so that they cannot drift apart.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIZE = 28
"""Side of the network's input in pixels."""
BOX = 20
"""Longest side of the digit in it; the rest is margin, which shifts of the convolutions need."""
LARGEST_SIDE = 256
"""Larger pictures are first reduced to this, which thins out noise; a digit needs two dozen pixels."""
FAINTEST_INK = 0.06
"""A picture whose strongest contrast (0 to 1) is below this is blank paper."""
NOISE_FLOOR = 0.2
"""Share of the strongest contrast below which a pixel is paper: noise, JPEG ringing, shadows."""


def to_tensor(image: Image.Image) -> torch.Tensor:
    """Return `image` as float32 [1, 28, 28], 0 for paper and 1 for the strongest ink.

    Any size and any Pillow mode that converts to RGB is taken, in any two colours: the paper is what the
    border mostly shows. A picture without contrast gives all zeros.
    """
    ink = _ink(_rgb(image))
    canvas = np.zeros((SIZE, SIZE), dtype=np.float32)
    if ink.max() > 0:
        digit = _fit(_crop(ink))
        top, left = (SIZE - digit.shape[0]) // 2, (SIZE - digit.shape[1]) // 2
        canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return torch.from_numpy(canvas)[None]


def _rgb(image: Image.Image) -> Image.Image:
    """Return `image` upright, opaque, at most LARGEST_SIDE long, as 8-bit RGB."""
    image = ImageOps.exif_transpose(_reduced(image))
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    elif image.has_transparency_data:
        image = _opaque(image.convert("RGBA"))
    image = image.convert("RGB")
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
    return image


def _reduced(image: Image.Image) -> Image.Image:
    """Return a huge picture in a fraction of its size, before anything is computed for each of its pixels."""
    factor = max(image.size) // (4 * LARGEST_SIDE)
    if factor < 2:
        return image
    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode.startswith("I;"):
        image = image.convert("I")
    return image.reduce((min(factor, image.width), min(factor, image.height)))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and float grey to 8 bits, which Pillow's own conversion would clip at 255."""
    levels = np.nan_to_num(np.asarray(image, dtype=np.float32))
    full_scale = 1.0 if image.mode == "F" and levels.max() <= 1 else 65535.0
    return Image.fromarray(
        (levels / max(full_scale, float(levels.max())) * 255).clip(0, 255).astype(np.uint8)
    )


def _opaque(image: Image.Image) -> Image.Image:
    """Lay an RGBA picture on white, or on black where what it shows is itself light."""
    levels = np.asarray(image, dtype=np.float32)
    alpha = levels[..., 3]
    shown = float((levels[..., :3].mean(axis=2) * alpha).sum() / max(float(alpha.sum()), 1.0))
    paper = Image.new("RGBA", image.size, "white" if shown < 128 else "black")
    return Image.alpha_composite(paper, image)


def _ink(image: Image.Image) -> NDArray[np.float32]:
    """Return how far each pixel of an RGB picture is from the border's colour, [height, width], 0 to 1."""
    levels = np.asarray(image, dtype=np.float32) / 255
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    distance = np.abs(levels - np.median(border, axis=0)).max(axis=2)
    strongest = float(distance.max())
    if strongest < FAINTEST_INK:
        return np.zeros_like(distance)
    ink: NDArray[np.float32] = (distance / strongest - NOISE_FLOOR).clip(0) / (1 - NOISE_FLOOR)
    return ink.astype(np.float32)


def _crop(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the smallest rectangle that holds all ink."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fit(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale `ink` so that its longer side is BOX pixels, and its strongest value 1."""
    height, width = ink.shape
    scale = BOX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC), dtype=np.float32).clip(0)
    scaled: NDArray[np.float32] = fitted / np.float32(max(float(fitted.max()), 1e-6))
    return scaled
