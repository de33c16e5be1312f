"""Memory that the front end shares with its workers, for bodies too large to push through a socket.

A large body is received, or copied, into a block, and the worker is told its place; it copies the body out,
or reads it there and copies its tensors. Two copies take a quarter of the time that the kernel needs to
carry 600 KB over a socket.

A block is a memoryview, and free again when nobody refers to that very object any more (slices of it do not
count): the connection that receives it, the request that waits, the batch that was sent and is not answered.
The memory has no name. Its size is sealed, because a worker that truncated it could end the front end with a
bus error, and so is its content where the kernel knows how (Linux 5.1).
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import fcntl
import mmap
import os
import weakref
from functools import partial

# Of address space; a page takes memory once something has been written to it.
ARENA_BYTES = 64 * 1024 * 1024
# Shorter bodies travel in the frame: finding a place for them costs more than it saves.
SHARED_FROM_BYTES = 128 * 1024
# Blocks begin on a page, as the kernel likes its targets.
_PAGE = 4096
# From Linux's fcntl.h; Python names it only in later versions.
_F_SEAL_FUTURE_WRITE = 0x0010


class Arena:
    """The front end's side: blocks of one piece of memory, the lowest free one first.

    Attributes:
        descriptor: file descriptor of the memory, for workers to inherit.
    """

    def __init__(self, size: int = ARENA_BYTES) -> None:
        """Set `size` bytes aside, a multiple of 4096.

        Raises:
            OSError: the system has no such memory to give.
        """
        self.descriptor = os.memfd_create("predictor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size)
            self._memory = memoryview(mmap.mmap(self.descriptor, size))
            with contextlib.suppress(OSError):  # an older kernel
                fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
        except OSError:
            os.close(self.descriptor)
            raise
        # Free stretches, (offset, length), by offset; no two touch.
        self._free = [(0, size)]
        self._taken: dict[int, tuple[weakref.ref[object], int]] = {}
        # Stretches that are free, too, once somebody looks. Python may collect a block at any moment, in any
        # thread: in the midst of a change to the list above, for one.
        self._released: collections.deque[tuple[int, int]] = collections.deque()

    @classmethod
    def where_possible(cls) -> Arena | None:
        """Return an arena, None where the system has none (it is Linux's)."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            return cls()
        except OSError:
            return None

    def take(self, length: int) -> memoryview | None:
        """Return a block of `length` bytes with whatever is in it, None if there is no room for it now."""
        while self._released:
            self._join(*self._released.popleft())
        size = -(-length // _PAGE) * _PAGE
        index = next((index for index, (_, room) in enumerate(self._free) if room >= size > 0), None)
        if index is None:
            return None
        offset, room = self._free[index]
        self._free[index : index + 1] = [(offset + size, room - size)] if room > size else []
        block = self._memory[offset : offset + length]
        released = partial(self._release, id(block), offset, size)
        self._taken[id(block)] = weakref.ref(block, released), offset
        return block

    def put(self, body: bytes | memoryview) -> memoryview | None:
        """Return a block that holds a copy of `body`, None if there is no room for it now."""
        block = self.take(len(body))
        if block is not None:
            block[:] = body
        return block

    def offset_of(self, body: bytes | memoryview) -> int | None:
        """Return where a block begins, None for anything else."""
        taken = self._taken.get(id(body))
        return None if taken is None else taken[1]

    def close(self) -> None:
        """Let go of the memory; blocks and workers' mappings live on until they end."""
        os.close(self.descriptor)

    def _release(self, key: int, offset: int, size: int, _: weakref.ref[object]) -> None:
        """Note that nobody uses a block any more, in steps that nothing can come between."""
        del self._taken[key]
        self._released.append((offset, size))

    def _join(self, offset: int, size: int) -> None:
        """Join a stretch with the free ones on both sides of it."""
        index = bisect.bisect(self._free, (offset, size))
        start, end = index, index
        if index < len(self._free) and self._free[index][0] == offset + size:
            size += self._free[index][1]
            end = index + 1
        if index and sum(self._free[index - 1]) == offset:
            start = index - 1
            offset, before = self._free[start]
            size += before
        self._free[start:end] = [(offset, size)]


class ArenaReader:
    """The worker's side."""

    def __init__(self, descriptor: int) -> None:
        """Map the memory of an inherited file descriptor, which is closed."""
        self._memory = memoryview(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
        os.close(descriptor)

    def view(self, offset: int, length: int) -> memoryview:
        """Return a block, read-only; what it holds stays until the batch that brought it is answered."""
        return self._memory[offset : offset + length]
