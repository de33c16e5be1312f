"""A time limit that is moved with every batch and hardly ever reached."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """One timer for many limits: it is not stopped when the limit moves away, but looks when it goes off."""

    def __init__(self, on_exceeded: Callable[[], object]) -> None:
        """Call `on_exceeded` when a limit is reached; none is set yet."""
        self._on_exceeded = on_exceeded
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Move the limit to so many seconds from now."""
        loop = asyncio.get_running_loop()
        self._at = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_at(self._at, self._look)
        elif self._timer.when() > self._at:
            self._timer.cancel()
            self._timer = loop.call_at(self._at, self._look)

    def clear(self) -> None:
        """Set no limit."""
        self._at = math.inf

    def close(self) -> None:
        """Stop the timer, too."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._at <= loop.time():
            self._at = math.inf
            self._on_exceeded()
        elif self._at < math.inf:
            self._timer = loop.call_at(self._at, self._look)
