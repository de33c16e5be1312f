"""The queue of a stateful model: requests of one sequence run in order, on one worker.

TorchServe's `sequenceBatching`: a request names its sequence in a header, a batch holds at most one
request of each sequence, and a sequence stays with the worker that began it, whose handler keeps its
state.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections import deque

from predictor.ipc.messages import InferenceRequest
from predictor.serving.job import Job

_ANONYMOUS = "ts-seq-"


@dataclasses.dataclass(frozen=True)
class SequencePolicy:
    """The limits of a stateful model.

    Attributes:
        max_sequences: sequences that may be open at once.
        queue_size: requests of one sequence that may wait.
        max_idle: seconds without a request after which a sequence is forgotten; with 0, one that waits
            for its client makes room when another one needs it.
        header_id: request header that names the sequence.
        header_start: request header that is "true" on the first request of a sequence.
        header_end: request header that is "true" on the last one.
    """

    max_sequences: int = 1
    queue_size: int = 1
    max_idle: float = 0.0
    header_id: str = "ts_request_sequence_id"
    header_start: str = "ts_request_sequence_start"
    header_end: str = "ts_request_sequence_end"


class _Sequence:
    """One open sequence: what waits, what runs, where its state is."""

    __slots__ = ("ending", "jobs", "running", "touched", "worker")

    def __init__(self, now: float) -> None:
        self.jobs: deque[Job] = deque()
        self.running: Job | None = None
        self.worker: int | None = None
        self.ending = False
        self.touched = now


class SequenceQueue:
    """Takes the place of `JobQueue` for stateful models; see there for the methods."""

    def __init__(self, policy: SequencePolicy) -> None:
        """Hold sequences within `policy`."""
        self.policy = policy
        self._sequences: dict[str, _Sequence] = {}
        self._ids: dict[int, str] = {}

    def __len__(self) -> int:
        """Return the number of waiting jobs."""
        return sum(len(sequence.jobs) for sequence in self._sequences.values())

    def refusal(self, job: Job) -> str | None:
        """Return why `job` cannot be queued, None when it can."""
        self._forget_idle(job.arrived)
        sequence = self._sequences.get(self._name(job.request))
        if sequence is None:
            if len(self._sequences) < self.policy.max_sequences or self._make_room():
                return None
            return f"{len(self._sequences)} sequences are open, which is the limit"
        if len(sequence.jobs) >= self.policy.queue_size:
            return f"the sequence has {len(sequence.jobs)} requests waiting, which is the limit"
        return None

    def push(self, job: Job) -> None:
        """Add a job to its sequence; a request without an id begins a sequence of its own."""
        name = self._name(job.request)
        if not name:
            name = f"{_ANONYMOUS}{uuid.uuid4()}"
            job.request.headers = [
                *job.request.headers,
                (self.policy.header_id, name),
                (self.policy.header_start, "true"),
            ]
        sequence = self._sequences.setdefault(name, _Sequence(job.arrived))
        sequence.jobs.append(job)
        sequence.touched = job.arrived
        self._ids[id(job)] = name

    def push_front(self, jobs: list[Job]) -> None:
        """Put jobs that were sent but not started back to the head of their sequences."""
        for job in reversed(jobs):
            sequence = self._sequences.setdefault(self._ids[id(job)], _Sequence(job.arrived))
            sequence.running = None
            sequence.jobs.appendleft(job)

    def discard(self, job: Job) -> None:
        """Remove a job that must not be started any more."""
        sequence = self._sequences.get(self._ids.get(id(job), ""))
        if sequence is not None and job in sequence.jobs:
            sequence.jobs.remove(job)
            # One that has never run, or has lost its last request, will not be heard of again.
            sequence.ending |= sequence.worker is None or _says(job.request, self.policy.header_end)
            self.done(job)

    def ready_at(self, batch_size: int, delay: float, worker: int) -> float | None:
        """Return when the next batch for `worker` may leave, None when nothing waits for it."""
        heads = [sequence.jobs[0].arrived for sequence in self._startable(worker)]
        if not heads:
            return None
        return min(heads) if delay == 0 or len(heads) >= batch_size else min(heads) + delay

    def take(self, batch_size: int, worker: int) -> list[Job]:
        """Remove and return the next batch for `worker`: the heads of the sequences that it may run."""
        ready = sorted(self._startable(worker), key=lambda sequence: sequence.jobs[0].arrived)
        batch = []
        for sequence in ready[:batch_size]:
            job = sequence.jobs.popleft()
            sequence.running, sequence.worker = job, worker
            # Nobody but the handler learns the name of an anonymous sequence, so nobody can go on with it.
            anonymous = self._ids[id(job)].startswith(_ANONYMOUS)
            sequence.ending = anonymous or _says(job.request, self.policy.header_end)
            batch.append(job)
        return batch

    def next_size(self, batch_size: int, worker: int) -> int:
        """Return how many jobs `take` would return."""
        return min(batch_size, len(self._startable(worker)))

    def done(self, job: Job) -> None:
        """Note that a job has been answered; the last one of a sequence frees its place."""
        name = self._ids.pop(id(job), "")
        sequence = self._sequences.get(name)
        if sequence is None:
            return
        if sequence.running is job:
            sequence.running = None
        if sequence.ending and sequence.running is None and not sequence.jobs:
            del self._sequences[name]

    def worker_lost(self, worker: int) -> None:
        """Let the sequences of a dead worker go on elsewhere, with empty state."""
        for sequence in self._sequences.values():
            if sequence.worker == worker:
                sequence.worker = None

    def drain(self) -> list[Job]:
        """Remove and return everything that waits."""
        jobs = [job for sequence in self._sequences.values() for job in sequence.jobs]
        self._sequences.clear()
        self._ids.clear()
        return jobs

    def _startable(self, worker: int) -> list[_Sequence]:
        return [
            sequence
            for sequence in self._sequences.values()
            if sequence.jobs and sequence.running is None and sequence.worker in (None, worker)
        ]

    def _make_room(self) -> bool:
        """Forget the sequence that has been idle for longest; returns whether there was one."""
        idle = [
            (sequence.touched, name)
            for name, sequence in self._sequences.items()
            if not sequence.jobs and sequence.running is None
        ]
        if self.policy.max_idle or not idle:
            return False
        del self._sequences[min(idle)[1]]
        return True

    def _forget_idle(self, now: float) -> None:
        limit = self.policy.max_idle
        if not limit:
            return
        for name, sequence in list(self._sequences.items()):
            if not sequence.jobs and sequence.running is None and now - sequence.touched > limit:
                del self._sequences[name]

    def _name(self, request: InferenceRequest) -> str:
        return _header(request, self.policy.header_id)


def _header(request: InferenceRequest, name: str) -> str:
    return next((value for key, value in reversed(request.headers) if key.lower() == name.lower()), "")


def _says(request: InferenceRequest, name: str) -> bool:
    return _header(request, name).strip().lower() == "true"
