"""The queue of one model version: bounded, and grouped by what may share a batch."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from predictor.serving.job import Group, Job


class Queue(Protocol):
    """What a model asks of its queue; `worker` is the number of the worker a batch is for."""

    def __len__(self) -> int:
        """Return the number of waiting jobs."""

    def refusal(self, job: Job) -> str | None:
        """Return why `job` cannot be queued, None when it can."""

    def push(self, job: Job) -> None:
        """Add a new job."""

    def push_front(self, jobs: list[Job]) -> None:
        """Put jobs that a worker did not finish back to the head."""

    def discard(self, job: Job) -> None:
        """Remove a job that must not be started any more."""

    def ready_at(self, batch_size: int, delay: float, worker: int) -> float | None:
        """Return the loop time at which the next batch may leave, None when nothing waits."""

    def take(self, batch_size: int, worker: int) -> list[Job]:
        """Remove and return the next batch."""

    def next_size(self, batch_size: int, worker: int) -> int:
        """Return how many jobs `take` would return."""

    def done(self, job: Job) -> None:
        """Note that a job that was taken has been answered."""

    def worker_lost(self, worker: int) -> None:
        """Note that a worker has died."""

    def drain(self) -> list[Job]:
        """Remove and return everything that waits."""


class JobQueue:
    """Jobs in order of arrival, handed out as batches of one group.

    The next batch always belongs to the group whose head has waited longest, so no group starves.
    """

    def __init__(self, limit: int) -> None:
        """Hold at most `limit` jobs."""
        self.limit = limit
        self._groups: dict[Group, deque[Job]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return the number of waiting jobs."""
        return self._count

    def refusal(self, job: Job) -> str | None:
        """Return why `job` cannot be queued, None when it can."""
        return f"{self._count} requests wait, which is the limit" if self._count >= self.limit else None

    def push(self, job: Job) -> None:
        """Add a new job at the end of its group."""
        self._groups.setdefault(job.group, deque()).append(job)
        self._count += 1

    def push_front(self, jobs: list[Job]) -> None:
        """Put jobs that a worker did not finish back to the head, in their order.

        They were accepted before, so the limit does not apply to them.
        """
        for job in reversed(jobs):
            self._groups.setdefault(job.group, deque()).appendleft(job)
        self._count += len(jobs)

    def discard(self, job: Job) -> None:
        """Remove a job that must not be started any more."""
        jobs = self._groups.get(job.group)
        if jobs is not None and job in jobs:
            jobs.remove(job)
            self._count -= 1

    def ready_at(self, batch_size: int, delay: float, worker: int = 0) -> float | None:
        """Return the loop time at which the next batch may leave, None when nothing waits.

        A batch may leave when it is full, or `delay` seconds after its first job arrived, or at once
        when its first job is being tried again.
        """
        jobs = self._oldest()
        if jobs is None:
            return None
        if delay == 0 or len(jobs) >= batch_size or jobs[0].deaths:
            return jobs[0].arrived
        return jobs[0].arrived + delay

    def take(self, batch_size: int, worker: int = 0) -> list[Job]:
        """Remove and return the next batch, empty when nothing waits.

        A job that was running when a worker died travels alone, so that a request that kills its
        worker takes nobody else with it a second time.
        """
        jobs = self._oldest()
        if jobs is None:
            return []
        batch = [jobs.popleft()]
        while jobs and len(batch) < batch_size and not batch[0].deaths and not jobs[0].deaths:
            batch.append(jobs.popleft())
        self._count -= len(batch)
        return batch

    def next_size(self, batch_size: int, worker: int = 0) -> int:
        """Return how many jobs `take` would return, at most (one that is tried again travels alone)."""
        jobs = self._oldest()
        if not jobs:
            return 0
        return 1 if jobs[0].deaths else min(batch_size, len(jobs))

    def done(self, job: Job) -> None:
        """Do nothing: these jobs have no successors."""

    def worker_lost(self, worker: int) -> None:
        """Do nothing: any worker can run any job."""

    def drain(self) -> list[Job]:
        """Remove and return everything."""
        jobs = [job for group in self._groups.values() for job in group]
        self._groups.clear()
        self._count = 0
        return jobs

    def _oldest(self) -> deque[Job] | None:
        waiting = [jobs for jobs in self._groups.values() if jobs]
        if not waiting:
            return None
        if len(waiting) == 1:
            return waiting[0]
        return min(waiting, key=lambda jobs: jobs[0].arrived)
