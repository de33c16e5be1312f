"""How this process's C library hands out memory for bodies and tensors."""

from __future__ import annotations

import ctypes
import sys

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_LARGEST_KEPT = 8 * 1024 * 1024
_KEPT_AT_MOST = 32 * 1024 * 1024


def keep_freed_blocks() -> None:
    """Let glibc reuse the memory of large bodies instead of giving it back after each (Linux only).

    By default a block of 128 KiB or more is mapped anew, and a fresh page costs a fault: for a tensor of
    602 KB that takes six times as long as copying it. The price is up to 32 MiB that stay with the process.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_MOST)
