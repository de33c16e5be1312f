"""A request on its way through the queues of the front end."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import AsyncIterator

from predictor.errors import PredictorError, Unavailable
from predictor.ipc.messages import Envelope, InferenceRequest, InferenceResult, Verb
from predictor.telemetry.record import CURRENT, RequestRecord

# Bytes of a streamed answer that may wait for a slow client.
_MAX_UNREAD = 16 * 1024 * 1024

Group = tuple[Verb, Envelope]


class JobState(enum.Enum):
    """QUEUED -> SENT -> DONE; a worker's death takes SENT back to QUEUED; either may be CANCELLED."""

    QUEUED = "queued"
    SENT = "sent"
    DONE = "done"
    CANCELLED = "cancelled"


class Job:
    """One request, the future of its answer, and what has happened to it so far.

    Attributes:
        request: what the worker is sent.
        future: resolves to an `InferenceResult`, or fails with a `PredictorError`. When the answer is
            streamed it is the first part, and `stream` holds the others.
        stream: the parts after the first: results, then None for the end, or the error that ended it;
            None when the answer is not streamed.
        arrived: loop time at which the job was made, in seconds.
        submitted: the same by `time.monotonic`, which is finer than the loop's milliseconds.
        deaths: workers that died while they ran it.
        record: what metrics know of the request, None where nobody counts it.
        deadline_timer: set while the request's own time limit runs.
    """

    __slots__ = (
        "_unread",
        "arrived",
        "deadline_timer",
        "deaths",
        "future",
        "group",
        "record",
        "request",
        "state",
        "stream",
        "submitted",
    )

    def __init__(self, request: InferenceRequest, loop: asyncio.AbstractEventLoop) -> None:
        """Make a queued job for `request`."""
        self.request = request
        self.group: Group = (request.verb, request.envelope)
        self.future: asyncio.Future[InferenceResult] = loop.create_future()
        self.arrived = loop.time()
        self.submitted = time.monotonic()
        self.record: RequestRecord | None = CURRENT.get()
        self.deaths = 0
        self.state = JobState.QUEUED
        self.stream: asyncio.Queue[InferenceResult | PredictorError | None] | None = None
        self.deadline_timer: asyncio.TimerHandle | None = None
        self._unread = 0

    def finish(self, result: InferenceResult) -> None:
        """Give the client its answer, or the last part of it."""
        if self.state is JobState.DONE:
            return
        self._close()
        if self.stream is not None:
            self.stream.put_nowait(result)
            self.stream.put_nowait(None)
        elif not self.future.done():
            self.future.set_result(result)

    def fail(self, error: PredictorError) -> None:
        """Give the client an error."""
        self._close()
        if self.stream is not None:
            self.stream.put_nowait(error)
        elif not self.future.done():
            self.future.set_exception(error)

    def chunk(self, result: InferenceResult) -> None:
        """Give the client one part of a streamed answer.

        A client that reads so slowly that too much waits for it is given up.
        """
        if self.state in (JobState.DONE, JobState.CANCELLED):
            return
        if self.stream is not None:
            self._unread += len(result.body)
            if self._unread > _MAX_UNREAD:
                self.fail(Unavailable("the client does not read its answer", ""))
            else:
                self.stream.put_nowait(result)
        elif not self.future.done():
            self.stream = asyncio.Queue()
            self.future.set_result(result)

    async def parts(self) -> AsyncIterator[InferenceResult]:
        """Yield the parts of a streamed answer that follow the first.

        Raises:
            PredictorError: the stream broke off.
        """
        while self.stream is not None:
            part = await self.stream.get()
            if part is None:
                return
            if isinstance(part, PredictorError):
                raise part
            self._unread -= len(part.body)
            yield part

    @property
    def may_run_again(self) -> bool:
        """Whether a worker's death may be answered with another try.

        Only predictions are repeated: an explanation is expensive, and the call that killed one
        worker is likely to kill the next.
        """
        return self.deaths < 2 and self.stream is None and self.request.verb is Verb.PREDICT

    def _close(self) -> None:
        if self.state is not JobState.CANCELLED:
            self.state = JobState.DONE
        if self.deadline_timer is not None:
            self.deadline_timer.cancel()
            self.deadline_timer = None
