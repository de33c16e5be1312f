"""The requests of one model version: queued, sent to workers in batches, rescued from dead ones."""

from __future__ import annotations

import asyncio
import itertools
import math
import time

from predictor.errors import (
    DeadlineExceeded,
    PayloadTooLarge,
    PredictorError,
    QueueFull,
    ResponseTimeout,
    WorkerDied,
    WorkerKilled,
    error_from_worker,
)
from predictor.ipc.frames import FrameError
from predictor.ipc.messages import InferenceRequest, Results
from predictor.serving.batch import SentBatch
from predictor.serving.job import Job, JobState
from predictor.serving.policy import ServingPolicy
from predictor.serving.queue import JobQueue, Queue
from predictor.serving.sequences import SequenceQueue
from predictor.serving.turns import Turns
from predictor.serving.worker import WorkerProcess, waiting_batches

# How much one answer moves the average time that Retry-After is derived from.
_SMOOTHING = 0.1
_MAX_RETRY_AFTER = 30


class Batcher:
    """Dynamic batching before a list of workers."""

    # Over all queues, because a worker may have batches from two of them.
    _ids = itertools.count()

    def __init__(
        self, name: str, policy: ServingPolicy, workers: list[WorkerProcess], turns: Turns | None = None
    ) -> None:
        """Send the requests of model `name` to `workers`, a list that others keep up to date.

        Args:
            turns: says which worker may be used; None means any.
        """
        self._name = name
        self._policy = policy
        self._workers = workers
        self._turns = turns or Turns()
        self._queue: Queue = (
            SequenceQueue(policy.sequences) if policy.sequences else JobQueue(policy.queue_size)
        )
        self._scheduled = False
        self._delay_timer: asyncio.TimerHandle | None = None
        # Clock since which a free worker waits for a batch to fill.
        self._filling_since = 0.0
        self._seconds_per_job = 0.0

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Requests that workers hold."""
        return sum(len(batch.jobs) for worker in self._workers for batch in worker.inflight)

    def submit(self, request: InferenceRequest) -> Job:
        """Queue a request.

        Raises:
            QueueFull: as many wait as may.
        """
        loop = asyncio.get_running_loop()
        job = Job(request, loop)
        refusal = self._refusal(job)
        if refusal is not None and self._scheduled:
            # A free worker may be about to make room.
            self._dispatch()
            refusal = self._refusal(job)
        if refusal is not None:
            raise QueueFull(f"model '{self._name}': {refusal}", self._name, self._retry_after())
        if self._policy.client_timeout:
            job.deadline_timer = loop.call_later(self._policy.client_timeout, self._expire, job)
        self._queue.push(job)
        self.dispatch_soon()
        return job

    def cancel(self, job: Job) -> None:
        """Forget a request whose client has gone; it is not computed unless it already runs."""
        if job.state is JobState.QUEUED:
            self._withdraw(job)
        elif job.state is JobState.SENT:
            for worker in self._workers:
                worker.cancel(job)
        if job.state is not JobState.DONE:
            job.state = JobState.CANCELLED
            job.future.cancel()

    def dispatch_soon(self) -> None:
        """Dispatch once the loop has read what other connections have to say: it may fill the batch."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def answered(self, batch: SentBatch, message: Results) -> None:
        """Hand the answers of a batch to their requests."""
        now = asyncio.get_running_loop().time()
        for job, result in zip(batch.jobs, message.results, strict=True):
            self._queue.done(job)
            if result is None:
                continue
            self._seconds_per_job += _SMOOTHING * (now - job.arrived - self._seconds_per_job)
            if result.error:
                job.fail(error_from_worker(result.error, result.message, result.status))
            else:
                job.finish(result)
        self._dispatch()

    def rescue(
        self, worker: WorkerProcess, batches: list[SentBatch], reason: str, between: bool = False
    ) -> None:
        """Queue again what a dead worker left undone, or answer it with an error.

        Args:
            worker: the one that died.
            batches: what it held, oldest first.
            reason: what the log says of its end.
            between: they were to run between the passes of an explanation, which may be what took too long.
        """
        for position, batch in reversed(list(enumerate(batches))):
            was_running = position == 0 or self._policy.continuous
            timed_out = was_running and worker.timed_out and not between
            again = [
                job for job in batch.jobs if self._may_go_on(job, worker, was_running, timed_out, reason)
            ]
            self._queue.push_front(again)
        self._queue.worker_lost(worker.number)
        self.dispatch_soon()

    def fail_waiting(self, error: PredictorError) -> None:
        """Answer everything in the queue with `error`."""
        for job in self._queue.drain():
            job.fail(error)

    # private

    def _refusal(self, job: Job) -> str | None:
        """Return why a new job is not taken, None when it is."""
        if self._policy.job_tickets:
            free = sum(worker.alive and not worker.inflight for worker in self._workers)
            if free * self._policy.batch_size <= len(self._queue):
                return "every worker is busy, and useJobTicket lets nobody wait"
        return self._queue.refusal(job)

    def _may_go_on(
        self, job: Job, worker: WorkerProcess, was_running: bool, timed_out: bool, reason: str
    ) -> bool:
        """Return whether a job of a dead worker is queued again; if not, it has been answered."""
        if job.state is not JobState.SENT:
            self._queue.done(job)
            return False
        job.deaths += was_running
        error: PredictorError | None = None
        if timed_out:
            limit = self._policy.response_timeout
            error = ResponseTimeout(f"model '{self._name}' did not answer within {limit:g} s")
        elif self._is_late(job):
            error = self._lateness()
        elif not job.may_run_again or (was_running and self._policy.sequences):
            died = WorkerKilled if worker.was_killed_by_others else WorkerDied
            error = died(f"the worker of model '{self._name}' died during the request: it {reason}")
        if error is None:
            job.state = JobState.QUEUED
            return True
        self._queue.done(job)
        job.fail(error)
        return False

    def _expire(self, job: Job) -> None:
        if job.state is JobState.QUEUED:
            self._withdraw(job)
        elif job.state is not JobState.SENT or not self._is_ahead(job):
            return
        else:
            for worker in self._workers:
                worker.cancel(job)
        job.fail(self._lateness())

    def _withdraw(self, job: Job) -> None:
        self._queue.discard(job)
        self._turns.withdrawn()

    def _is_ahead(self, job: Job) -> bool:
        """Return whether a job was sent but cannot have started, because another batch runs before it."""
        if self._policy.continuous:
            return False
        ahead = (batch for worker in self._workers for batch in waiting_batches(worker))
        return any(job in batch.jobs for batch in ahead)

    def _lateness(self) -> DeadlineExceeded:
        limit = self._policy.client_timeout
        return DeadlineExceeded(f"model '{self._name}': the request waited longer than {limit:g} s")

    def _is_late(self, job: Job) -> bool:
        age = asyncio.get_running_loop().time() - job.arrived
        return 0 < self._policy.client_timeout <= age

    def _dispatch(self) -> None:
        """Send batches while there are jobs, and workers to take them.

        A free worker takes whatever may leave. A busy one is given only full batches ahead: a partial
        one would run as it is although more jobs arrive before its turn.
        """
        self._scheduled = False
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None
        if not len(self._queue):
            self._filling_since = 0.0
            return
        for held in range(self._capacity):
            for worker in self._turns.ordered(self._workers):
                if not worker.alive or self._turns.held(worker) != held:
                    continue
                if self._turns.allows(worker) and not self._offer(worker, held):
                    return

    def _offer(self, worker: WorkerProcess, held: int) -> bool:
        """Give a worker the next batch if it may leave now; returns whether anything still waits.

        Args:
            held: how many it already has to do first.
        """
        size = 1 if self._policy.continuous else self._policy.batch_size
        delay = 0.0 if self._policy.continuous else self._policy.max_batch_delay
        ready_at = self._queue.ready_at(size, delay, worker.number)
        if ready_at is None:
            self._filling_since = 0.0
        if ready_at is None or (held and self._queue.next_size(size, worker.number) < size):
            return len(self._queue) > 0
        loop = asyncio.get_running_loop()
        if ready_at > loop.time():
            self._filling_since = self._filling_since or time.monotonic()
            self._delay_timer = self._delay_timer or loop.call_at(ready_at, self._dispatch)
            return True
        jobs = self._queue.take(size, worker.number)
        for job in jobs:
            job.state = JobState.SENT
        try:
            batch = SentBatch(next(self._ids), jobs, self._policy.response_timeout)
            batch.filling_since, self._filling_since = self._filling_since, 0.0
            worker.send(batch)
            self._turns.taken()
        except FrameError as error:
            for job in jobs:
                self._queue.done(job)
                job.fail(PayloadTooLarge(f"model '{self._name}': {error}"))
            self._turns.withdrawn()
        return len(self._queue) > 0

    @property
    def _capacity(self) -> int:
        """Batches that one worker may hold."""
        if self._policy.continuous:
            return self._policy.batch_size
        return 1 if self._policy.sequences else 1 + self._policy.prefetch

    def _retry_after(self) -> int:
        """Return the seconds after which a refused client may find a place, at least 1."""
        return max(1, min(_MAX_RETRY_AFTER, math.ceil(self._seconds_per_job)))
