"""How long a worker spends on decoding, on the model, and on encoding."""

from __future__ import annotations

import enum
import time


class Stage(enum.IntEnum):
    """What a worker does to a batch; every moment of a batch belongs to one of them."""

    DECODE = 0
    INFERENCE = 1
    ENCODE = 2


class Stopwatch:
    """Sums up seconds by stage; a batch that is halved and run again goes through its stages again.

    What a handler does counts as inference, except where it tells: the native handler does, and
    TorchServe's `BaseHandler` for those who keep its `handle`.
    """

    __slots__ = ("_seconds", "_since", "_stage")

    def __init__(self) -> None:
        """Stand still until `restart`."""
        self.restart()

    def restart(self) -> None:
        """Forget what was measured, and measure decoding."""
        self._seconds = [0.0, 0.0, 0.0]
        self._stage = Stage.DECODE
        self._since = time.monotonic()

    def enter(self, stage: Stage) -> None:
        """Say that `stage` begins now."""
        now = time.monotonic()
        self._seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now

    def skip(self, seconds: float) -> None:
        """Take back what was measured last: it was spent on another batch."""
        self._since += seconds

    def read(self) -> tuple[float, float, float]:
        """Return the seconds of decoding, inference and encoding until now."""
        self.enter(self._stage)
        decode, inference, encode = self._seconds
        return decode, inference, encode


def enter(context: object, stage: Stage) -> None:
    """Say that `stage` begins now, if `context` is that of a worker: tests of handlers make their own."""
    stopwatch = getattr(context, "stopwatch", None)
    if isinstance(stopwatch, Stopwatch):
        stopwatch.enter(stage)
