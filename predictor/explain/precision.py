"""The precision in which a model is explained: its own, or bfloat16 where a device computes in that."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
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
def full_precision(recurrent: bool = False) -> Iterator[None]:
    """Keep NVIDIA GPUs from computing float32 in TF32, whose ten bits would show in the attributions.

    Args:
        recurrent: the model has recurrent layers, of which cuDNN has no backward pass in evaluation mode:
            PyTorch's own are taken.
    """
    if not torch.cuda.is_available():
        yield
        return
    outside = _Flags.now()
    _outside.append(outside)
    outside.without_tf32(recurrent).set()
    try:
        yield
    finally:
        outside.set()
        _outside.pop()


@contextlib.contextmanager
def precision_outside() -> Iterator[None]:
    """Let what runs while an explanation is suspended compute as if there were none."""
    if not _outside:
        yield
        return
    inside = _Flags.now()
    _outside[0].set()
    try:
        yield
    finally:
        inside.set()


@dataclasses.dataclass(frozen=True)
class _Flags:
    """What decides how precisely a GPU computes in float32; it belongs to the process.

    PyTorch has two families of these flags, and reading one of the older is an error once a model has set
    them apart by the newer, which came with 2.9.

    Attributes:
        matmul: of products, "highest" to "medium"; None if it cannot be read.
        convolutions: whether cuDNN may take TF32; likewise.
        newer: of each of `_places()`.
        cudnn: whether it is used at all.
    """

    matmul: str | None
    convolutions: bool | None
    newer: tuple[str, ...]
    cudnn: bool

    @classmethod
    def now(cls) -> _Flags:
        return cls(
            _readable(torch.get_float32_matmul_precision),
            _readable(lambda: torch.backends.cudnn.allow_tf32),
            tuple(place.fp32_precision for place in _places()),
            torch.backends.cudnn.enabled,
        )

    def without_tf32(self, recurrent: bool) -> _Flags:
        return _Flags(
            None if self.matmul is None else "highest",
            None if self.convolutions is None else False,
            ("ieee",) * len(self.newer),
            self.cudnn and not recurrent,
        )

    def set(self) -> None:
        """Make them so; the older first, which set some of the newer, too."""
        if self.matmul is not None:
            torch.set_float32_matmul_precision(self.matmul)
        if self.convolutions is not None:
            torch.backends.cudnn.allow_tf32 = self.convolutions
        for place, precision in zip(_places(), self.newer, strict=True):
            place.fp32_precision = precision
        torch.backends.cudnn.enabled = self.cudnn


def _readable(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return None


def _places() -> tuple[Any, ...]:
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):
        return ()
    return backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul


# What they were when each of the nested explanations began.
_outside: list[_Flags] = []
