"""Memory that the front end shares with one worker, for bodies too large to push through a socket.

The front end copies a body into the ring and sends its place; the worker copies it out before it runs
the batch. Two copies take a quarter of the time that the kernel needs to carry 600 KB over a socket.

The memory has no name and no owner but the two processes, and its size is sealed: a worker that
truncated it could end the front end with a bus error.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections import deque

# Of address space; a page takes memory once something has been written to it.
ARENA_BYTES = 32 * 1024 * 1024
# Shorter bodies travel in the frame: finding a place for them costs more than it saves.
SHARED_FROM_BYTES = 128 * 1024


class Arena:
    """The front end's side: a ring of blocks that are freed in the order in which they were taken.

    Attributes:
        descriptor: file descriptor of the memory, for the worker to inherit.
    """

    def __init__(self, size: int = ARENA_BYTES) -> None:
        """Set `size` bytes aside.

        Raises:
            OSError: the system has no such memory to give.
        """
        self.descriptor = os.memfd_create("predictor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
            self._memory = mmap.mmap(self.descriptor, size)
        except OSError:
            os.close(self.descriptor)
            raise
        self._size = size
        self._taken: deque[tuple[int, int]] = deque()

    @classmethod
    def where_possible(cls) -> Arena | None:
        """Return an arena, None where the system has none (it is Linux's)."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            return cls()
        except OSError:
            return None

    def put(self, body: bytes) -> int | None:
        """Copy `body` in; returns its offset, None if there is no room for it now."""
        offset = self._room(len(body))
        if offset is not None:
            self._memory[offset : offset + len(body)] = body
            self._taken.append((offset, len(body)))
        return offset

    def free(self, blocks: int) -> None:
        """Give the `blocks` that were taken first back."""
        for _ in range(blocks):
            self._taken.popleft()

    def take_back(self, blocks: int) -> None:
        """Give the `blocks` that were taken last back: they were never sent."""
        for _ in range(blocks):
            self._taken.pop()

    def close(self) -> None:
        """Give the memory back; the worker's mapping lives on until it ends."""
        self._memory.close()
        os.close(self.descriptor)

    def _room(self, length: int) -> int | None:
        """Find `length` free bytes in a row."""
        if not self._taken:
            return 0 if length <= self._size else None
        first = self._taken[0][0]
        last, last_length = self._taken[-1]
        end = last + last_length
        if last < first:
            # The ring has wrapped: what is free lies between the newest block and the oldest.
            return end if length <= first - end else None
        if length <= self._size - end:
            return end
        return 0 if length <= first else None


class ArenaReader:
    """The worker's side."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory of an inherited file descriptor, which is closed."""
        self._memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        os.close(descriptor)

    def get(self, offset: int, length: int) -> bytes:
        """Return a copy of a block."""
        return self._memory[offset : offset + length]
