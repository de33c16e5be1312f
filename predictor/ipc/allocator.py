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
    keep_freed(_LARGEST_KEPT, _KEPT_AT_MOST)


def keep_freed(largest_block: int, at_most: int) -> bool:
    """Let this process keep freed memory; returns whether the allocator is glibc's, and does.

    Args:
        largest_block: bytes of a block that is kept; glibc takes 32 MiB at most.
        at_most: bytes of freed memory that stay with the process.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(
        mallopt(_M_MMAP_THRESHOLD, largest_block) and mallopt(_M_TRIM_THRESHOLD, at_most)
    )
