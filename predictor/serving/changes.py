"""Changes to the models while they are under way: one at a time for each model, to their end.

A change goes on when whoever asked for it goes away; only a server that stops gives it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from predictor.errors import PredictorError, ShuttingDown

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Changes:
    """Those of one server."""

    def __init__(self) -> None:
        """Begin with none."""
        self._locks: dict[str, tuple[asyncio.Lock, list[None]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @contextlib.asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """Wait until no other change to the model `name` is under way, and keep others waiting."""
        lock, users = self._locks.setdefault(name, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._locks[name]

    async def run(self, change: Coroutine[Any, Any, Result]) -> Result:
        """Carry a change out, to its end even if whoever waits for it goes away.

        Raises:
            ShuttingDown: the server stops.
            PredictorError: whatever the change raises.
        """
        return await outcome(self.begin(change))

    def begin(self, change: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin a change that nobody need wait for; what goes wrong in it is logged.

        Raises:
            ShuttingDown: the server stops.
        """
        if self._closed:
            change.close()
            raise _shutting_down()
        task = asyncio.ensure_future(change)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Give up every change that is under way, and begin no other."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        """Say what went wrong, whether or not somebody still waits for it."""
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, PredictorError):
            logger.log(logging.ERROR if error.status >= 500 else logging.WARNING, "%s", error.message)
        elif error is not None:
            logger.error("a change to the models failed", exc_info=error)


async def outcome(task: asyncio.Task[Result]) -> Result:
    """Wait for a change, which goes on when the caller is cancelled.

    Raises:
        ShuttingDown: the change has been given up; the caller has not, and owes its client an answer.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise _shutting_down() from None
        raise


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("the server is shutting down", "")
