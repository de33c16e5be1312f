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
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = products
        torch.backends.cudnn.allow_tf32 = convolutions
