"""Time that passes at once, for tests of what happens when."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest


def skip_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the running loop go to its next timer instead of waiting for it.

    Timers go off in their order, at exactly their times, however busy the machine is; `time.monotonic`
    agrees with the loop. Only for what waits for nothing but timers: a thread or a socket would be late.
    """
    loop: Any = asyncio.get_running_loop()
    now, select = time.monotonic(), loop._selector.select

    def go_on(timeout: float | None) -> list[Any]:
        nonlocal now
        if timeout is None:
            return list(select(None))
        events = list(select(0))
        if not events:
            now += max(timeout, 0.0)
        return events

    monkeypatch.setattr(loop._selector, "select", go_on)
    monkeypatch.setattr(time, "monotonic", lambda: now)
