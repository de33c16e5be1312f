"""What an input is compared with: the baseline that stands for "nothing to see here"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from predictor.errors import InvalidInput
from predictor.ipc.messages import TensorSpec

WORDS = ("zero", "mean", "blur")
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
    if packed:
        row = batch[0]
        columns = [
            _one(spec, values.get(spec.name, defaults.get(spec.name, 0.0)), row[:, index])
            for index, spec in enumerate(specs)
        ]
        return [torch.stack(columns, dim=1)]
    return [
        _one(spec, values.get(spec.name, defaults.get(spec.name, 0.0)), tensor)
        for spec, tensor in zip(specs, batch, strict=True)
    ]


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


def _one(spec: TensorSpec, value: Any, like: torch.Tensor) -> torch.Tensor:
    """Return the baseline of one input, in the shape and type of `like` [1, ...]."""
    if isinstance(value, str):
        return _word(spec, value, like)
    if isinstance(value, bool) or not isinstance(value, (int, float, list, tuple)):
        raise InvalidInput(
            f"explain.baseline for '{spec.name}' must be a number, nested lists, or one of {', '.join(WORDS)}"
        )
    try:
        array = np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInput(f"explain.baseline for '{spec.name}' must hold numbers only") from error
    if not np.isfinite(array).all():
        raise InvalidInput(f"explain.baseline for '{spec.name}' must be finite")
    if array.shape not in ((), tuple(like.shape[1:])):
        raise InvalidInput(
            f"explain.baseline for '{spec.name}' must have the shape "
            f"{list(like.shape[1:])}, got {list(array.shape)}"
        )
    baseline = torch.from_numpy(array).to(like.device, like.dtype)
    if not torch.isfinite(baseline).all():
        raise InvalidInput(f"explain.baseline for '{spec.name}' is too large for {spec.dtype}")
    return baseline.expand_as(like).contiguous()


def _word(spec: TensorSpec, word: str, like: torch.Tensor) -> torch.Tensor:
    if word == "zero":
        return torch.zeros_like(like)
    is_picture = like.dim() == 4 and like.is_floating_point()
    if word in WORDS and is_picture:
        cells = 1 if word == "mean" else _BLUR_CELLS
        coarse = torch.nn.functional.adaptive_avg_pool2d(like, cells)
        size = (like.shape[2], like.shape[3])
        return torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    allowed = ", ".join(WORDS) if is_picture else "zero"
    raise InvalidInput(f"explain.baseline for '{spec.name}' must be one of {allowed}; got {word!r}")
