"""The body of one request on its way in.

Most bodies come through the parser, part by part. That copies each byte four times, which for a tensor of
602 KB costs more than all else that the front end does: the rest of a large body whose length is known is
received into its final place instead, past the parser.
"""

from __future__ import annotations

import asyncio
import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable

Take = Callable[[int], "memoryview | None"]
"""Finds memory for so many bytes, None if there is none."""

# What must be still to come of a body: below, the parser is quicker than finding it a place.
IN_PLACE_FROM_BYTES = 32 * 1024
# Seconds for which a body may keep a place that others could use.
SLOW_SECONDS = 2.0


class IncomingBody(ABC):
    """A body that somebody waits for.

    Attributes:
        size: bytes that are here.
    """

    def __init__(self, begun: bytes | bytearray) -> None:
        """Go on from what has come already."""
        self.size = len(begun)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle

    @abstractmethod
    def content(self) -> bytes | memoryview:
        """Return what is here."""

    async def arrival(self, patience: float) -> None:
        """Wait until `end` is called.

        Raises:
            asyncio.TimeoutError: no byte has come for `patience` seconds, or up to twice as long.
        """
        loop = asyncio.get_running_loop()

        self._timer = loop.call_later(patience, self._look, patience, self.size)
        try:
            await self._ended
        finally:
            self._timer.cancel()

    def _look(self, patience: float, seen: int) -> None:
        """Look after `patience` seconds whether more has come than was `seen` before."""
        if self.size > seen:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(patience, self._look, patience, self.size)
        elif not self._ended.done():
            self._ended.set_exception(asyncio.TimeoutError())

    def end(self) -> None:
        """Wake who waits: the body is complete, or nothing more of it will be taken."""
        if not self._ended.done():
            self._ended.set_result(None)


class BodyInParts(IncomingBody):
    """What the parser hands out, up to a limit."""

    def __init__(self, begun: bytes | bytearray, limit: int) -> None:
        """Take no more than `limit` bytes."""
        super().__init__(begun)
        self._parts = [bytes(begun)]
        self._limit = limit

    def add(self, part: bytes) -> None:
        """Take the next part; of what comes after the limit nothing is kept."""
        if self.size <= self._limit:
            self._parts.append(part)
            self.size += len(part)
        if self.size > self._limit:
            self.end()

    def content(self) -> bytes:
        """Return the parts joined."""
        return b"".join(self._parts)


class BodyInPlace(IncomingBody):
    """Memory for a body of known length, into which the socket is read."""

    def __init__(self, begun: bytes | bytearray, length: int, take: Take) -> None:
        """Receive `length` bytes into what `take` finds, else into memory of the body's own."""
        super().__init__(begun)
        lent = take(length)
        self._is_lent = lent is not None
        self._memory = take_anonymous(length) if lent is None else lent
        self._memory[: self.size] = begun

    async def arrival(self, patience: float) -> None:
        """Wait as for any body; a slow one goes on in memory of its own, and leaves its place to others."""
        leaving = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._leave)
        try:
            await super().arrival(patience)
        finally:
            leaving.cancel()

    def _leave(self) -> None:
        if self._is_lent:
            own = take_anonymous(len(self._memory))
            own[: self.size] = self._memory[: self.size]
            self._memory, self._is_lent = own, False

    @property
    def complete(self) -> bool:
        """Whether every byte is here."""
        return self.size == len(self._memory)

    @property
    def rest(self) -> memoryview:
        """Where the next bytes belong; never longer than the body, so that nothing behind it gets in."""
        return self._memory[self.size :]

    def advance(self, count: int) -> None:
        """Note that `count` bytes have been written to `rest`."""
        self.size += count
        if self.complete:
            self.end()

    def content(self) -> memoryview:
        """Return the whole memory."""
        return self._memory


def take_anonymous(length: int) -> memoryview:
    """Return memory for `length` bytes; a page takes some once it has been written to.

    So a client that declares much and sends little costs little.
    """
    return memoryview(mmap.mmap(-1, length))
