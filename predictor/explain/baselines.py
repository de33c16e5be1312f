"""What an input is compared with: the baseline that stands for "nothing to see here"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from predictor.errors import InvalidInput
from predictor.ipc.messages import TensorSpec

WORDS = ("zero", "mean", "blur")
_NO_PICTURE = "only pictures have a {} of their own: send typical values instead, as an object by input"
# Cells along each side that a blurred picture is averaged into.
_BLUR_CELLS = 4


def make_baseline(
    given: Any, default: Any, specs: Sequence[TensorSpec], packed: bool, batch: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Return a baseline for one example, in the shapes of the model's arguments `batch` (one row each).

    Args:
        given: a word, a number, nested lists for a single input or for packed features, or an object of
            these by input name; None for the default.
        default: the model's own, in the same forms; also used for inputs that an object leaves out.
        packed: the inputs are features, the columns of a single argument.

    Raises:
        InvalidInput: it is none of these, or does not fit; the message names the input.
    """
    chosen = default if given is None else given
    values = _by_name(chosen, specs, packed)
    defaults = _by_name(default, specs, packed)

    def one(spec: TensorSpec, like: torch.Tensor) -> torch.Tensor:
        is_named = isinstance(chosen, Mapping) and spec.name in chosen
        where = f"explain.baseline.{spec.name}" if is_named else f"explain.baseline for '{spec.name}'"
        return _one(spec, values.get(spec.name, defaults.get(spec.name, 0.0)), like, where)

    if packed:
        row = batch[0]
        columns = [row[:, index] for index in range(len(specs))]
        return [torch.stack([one(spec, column) for spec, column in zip(specs, columns, strict=True)], dim=1)]
    return [one(spec, tensor) for spec, tensor in zip(specs, batch, strict=True)]


def _by_name(value: Any, specs: Sequence[TensorSpec], packed: bool) -> Mapping[str, Any]:
    names = [spec.name for spec in specs]
    if isinstance(value, Mapping):
        for name in value:
            if name not in names:
                raise InvalidInput(f"explain.baseline.{name} is no input; inputs are {', '.join(names)}")
        return value
    if isinstance(value, (list, tuple)) and (packed or len(specs) > 1):
        if len(value) != len(specs):
            raise InvalidInput(f"explain.baseline needs {len(specs)} values, got {len(value)}")
        return dict(zip(names, value, strict=True))
    return dict.fromkeys(names, 0.0 if value is None else value)


def _one(spec: TensorSpec, value: Any, like: torch.Tensor, where: str) -> torch.Tensor:
    """Return the baseline of one input, in the shape and type of `like` [1, ...]; `where` is its field."""
    is_picture = like.dim() == 4 and like.is_floating_point()
    words = ", ".join(WORDS if is_picture else WORDS[:1])
    allowed = (
        f"{words} or a number" if like.numel() == 1 else f"{words}, a number, or nested lists of numbers"
    )
    if isinstance(value, str):
        baseline = _word(value, like, is_picture)
        if baseline is None:
            why = "" if is_picture or value not in WORDS else f"; {_NO_PICTURE.format(value)}"
            raise InvalidInput(f"{where} must be {allowed}; got {value!r}{why}")
        return baseline
    if isinstance(value, bool) or not isinstance(value, (int, float, list, tuple)):
        raise InvalidInput(f"{where} must be {allowed}; got {value!r}")
    try:
        array = np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"{where} must hold numbers only") from error
    if not np.isfinite(array).all():
        raise InvalidInput(f"{where} must be finite")
    if array.shape not in ((), tuple(like.shape[1:])):
        raise InvalidInput(f"{where} must have the shape {list(like.shape[1:])}, got {list(array.shape)}")
    numbers = torch.from_numpy(array).to(like.device, like.dtype)
    if not torch.isfinite(numbers).all():
        raise InvalidInput(f"{where} is too large for {spec.dtype}")
    return numbers.expand_as(like).contiguous()


def _word(word: str, like: torch.Tensor, is_picture: bool) -> torch.Tensor | None:
    """Return the baseline that a word stands for, None where it stands for none."""
    if word == "zero":
        return torch.zeros_like(like)
    if word not in WORDS or not is_picture:
        return None
    cells = 1 if word == "mean" else _BLUR_CELLS
    coarse = torch.nn.functional.adaptive_avg_pool2d(like, cells)
    size = (like.shape[2], like.shape[3])
    return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
