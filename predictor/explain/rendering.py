"""Attributions of pictures as PNG: red speaks for the target, blue against it."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from predictor.explain.request import ImageStyle

Array = npt.NDArray[Any]

FOR = (208, 32, 48)
AGAINST = (28, 92, 200)
_GAP = 8
# Mean brightness, of 255, below which a drawing in grey counts as dark.
_DARK = 80


def render_picture(values: Array, heat: Array, style: ImageStyle) -> bytes:
    """Draw a picture and what its parts contributed.

    Args:
        values: the picture as the model saw it, [channels, height, width].
        heat: attributions [height, width], or with channels before that, which are added up.

    Returns:
        A PNG of RGB.
    """
    heat = np.nan_to_num(heat if heat.ndim == 2 else heat.sum(axis=0))
    height, width = heat.shape
    scale = max(1, math.ceil(style.size / max(height, width))) if style.size else 1
    size = (width * scale, height * scale)
    picture = _enlarged(to_picture(values), size)
    strength = _strength(heat, style)
    weight = np.asarray(
        Image.fromarray(strength.astype(np.float32)).resize(size, Image.Resampling.NEAREST), dtype=np.float32
    )
    drawn = _draw(picture, weight, style)
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, "PNG", compress_level=1 if drawn.size > 1_000_000 else 6)
    return buffer.getvalue()


def to_picture(values: Array) -> Array:
    """Return the model's input [channels, height, width] as RGB, uint8 [height, width, 3].

    Numbers from 0 to 1, or to 255 in integers, are shown as they are; others are stretched.
    """
    pixels = np.nan_to_num(np.asarray(values, dtype=np.float32))
    pixels = pixels[:3] if len(pixels) == 3 else pixels.mean(axis=0, keepdims=True).repeat(3, axis=0)
    low, high = float(pixels.min()), float(pixels.max())
    if np.issubdtype(np.asarray(values).dtype, np.integer):
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    shown: Array = (pixels - low) / max(high - low, 1e-12) * 255
    return np.asarray(shown.transpose(1, 2, 0).round().clip(0, 255), dtype=np.uint8)


def _enlarged(picture: Array, size: tuple[int, int]) -> Array:
    large = Image.fromarray(picture).resize(size, Image.Resampling.NEAREST)
    return np.asarray(large, dtype=np.float32)


def _strength(heat: Array, style: ImageStyle) -> Array:
    """Return the attributions that are shown, scaled to -1..1."""
    if style.sign == "positive":
        heat = heat.clip(min=0)
    elif style.sign == "negative":
        heat = heat.clip(max=0)
    elif style.sign == "absolute":
        heat = np.abs(heat)
    sizes = np.abs(heat)
    # Of what is not zero: in a mostly empty picture a percentile of everything would be nothing.
    shown = sizes[sizes > 0]
    top = float(np.percentile(shown, style.clip_percentile)) if shown.size else 1.0
    return (heat / max(top, 1e-30)).clip(-1, 1)


def _ground(picture: Array) -> Array:
    """Return what lies under the colours: the picture in pale grey, so that the colours are the heat's alone.

    A dark drawing is shown as its negative, ink on paper: red and blue are hard to see on black.
    """
    grey = picture.mean(axis=2, keepdims=True)
    if _is_dark_drawing(picture):
        return np.asarray(255 - 0.5 * grey, dtype=np.float32)
    return np.asarray(96 + 0.58 * grey, dtype=np.float32)


def _is_dark_drawing(picture: Array) -> bool:
    red, green, blue = (picture[..., channel] for channel in range(3))
    return bool(picture.mean() < _DARK and np.array_equal(red, green) and np.array_equal(green, blue))


def _draw(picture: Array, weight: Array, style: ImageStyle) -> Array:
    colour = np.where(weight[..., None] >= 0, np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    heat = (np.abs(weight) ** 0.8)[..., None]
    if style.style == "masked":
        shown = 255 - picture if _is_dark_drawing(picture) else picture
        return (shown * heat + 255 * (1 - heat)).astype(np.uint8)
    overlay_ground = _ground(picture)
    overlay = overlay_ground * (1 - style.alpha * heat) + colour * style.alpha * heat
    alone = 255 * (1 - heat) + colour * heat
    if style.style == "side_by_side":
        gap = np.full((picture.shape[0], _GAP, 3), 255, dtype=np.float32)
        return np.concatenate([picture, gap, overlay, gap, alone], axis=1).astype(np.uint8)
    return (alone if style.style == "heatmap" else overlay).astype(np.uint8)
