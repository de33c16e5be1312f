"""The precision in which a model is explained: its own, or bfloat16 where a device computes in that."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from predictor.errors import InvalidInput

# As `torch.cpu.get_capabilities` calls what multiplies bfloat16: on x86, and on Arm.
_CPU_FEATURES = ("amx_bf16", "avx512_bf16", "bf16")


def autocast_dtype(args: Mapping[str, Any], device: torch.device) -> torch.dtype | None:
    """Return what convolutions and products compute in, by a method's arguments; None for the model's own.

    Raises:
        InvalidInput: the device would only emulate it, which is slower than float32.
    """
    if args.get("precision", "float32") == "float32":
        return None
    if not computes_bfloat16(device):
        raise InvalidInput(
            "explain.args.precision must be 'float32': the model is explained on a "
            f"{'GPU' if device.type == 'cuda' else 'processor'} that does not compute in bfloat16"
        )
    return torch.bfloat16


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    found = torch.cpu.get_capabilities()
    return any(bool(found.get(feature)) for feature in _CPU_FEATURES)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Keep NVIDIA GPUs from computing float32 in TF32, whose ten bits would show in the attributions."""
    if not torch.cuda.is_available():
        yield
        return
    outside = _tf32()
    _outside.append(outside)
    _set_tf32((False, False))
    try:
        yield
    finally:
        _set_tf32(outside)
        _outside.pop()


@contextlib.contextmanager
def precision_outside() -> Iterator[None]:
    """Let what runs while an explanation is suspended compute as if there were none."""
    if not _outside:
        yield
        return
    inside = _tf32()
    _set_tf32(_outside[0])
    try:
        yield
    finally:
        _set_tf32(inside)


# The flags belong to the process: what they were when each of the nested explanations began.
_outside: list[tuple[bool, bool]] = []


def _tf32() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def _set_tf32(flags: tuple[bool, bool]) -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = flags
