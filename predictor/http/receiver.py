"""What the event loop reads into: a scratch buffer for the parser, or the place of a large body."""

from __future__ import annotations

import asyncio
from typing import Any

from predictor.http.connection import Connection

# Enough for most requests as a whole; what it takes of a large body is copied three times more.
_SCRATCH = bytearray(32 * 1024)
_SCRATCH_VIEW = memoryview(_SCRATCH)


class Receiver(asyncio.BufferedProtocol):
    """Reads one connection; uvicorn makes one for each.

    All share one scratch buffer: a loop asks for a buffer, fills it and reports without doing anything else
    in between.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        """Make the connection with uvicorn's arguments."""
        self.connection = Connection(*args, **options)

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        """Return what the next bytes are to be written to."""
        body = self.connection.in_place
        return _SCRATCH if body is None else body.rest

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that have been written."""
        if self.connection.in_place is not None:
            self.connection.body_received(nbytes)
            return
        self.connection.data_received(bytes(_SCRATCH_VIEW[:nbytes]))
        if nbytes == len(_SCRATCH):
            self.connection.hold_back()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass it on."""
        self.connection.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self.connection.connection_lost(exc)

    def eof_received(self) -> None:
        """Pass it on; the transport then closes itself."""
        self.connection.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self.connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.connection.resume_writing()
