"""Whose turn a worker is when predictions and explanations share the workers of a model.

An explanation costs as much as two to a thousand predictions, so:

* a worker takes one explanation at a time, and only when it holds nothing else;
* predictions are sent behind it once it says that it gives way: they wait for one pass of it at most. A
  handler that explains for itself does not give way: they wait for its end;
* of several workers one is never given an explanation;
* where both wait, predictions go first, but explanations get a fifth of the time: they do not starve.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from predictor.ipc.messages import Timing, Verb
from predictor.serving.batch import SentBatch
from predictor.serving.worker import WorkerProcess

# Of the workers' time that explanations get while predictions wait.
_SHARE = 0.2


class Turns:
    """Says whether a lane may use a worker now: any, for the only lane before its workers."""

    def allows(self, worker: WorkerProcess) -> bool:
        """Return whether `worker` may be given a batch of this lane."""
        return True

    def held(self, worker: WorkerProcess) -> int:
        """Return how many batches `worker` holds that run before one that it is given now."""
        return len(worker.inflight)

    def ordered(self, workers: Sequence[WorkerProcess]) -> Sequence[WorkerProcess]:
        """Return `workers`, those first that are to be used first."""
        return workers

    def taken(self) -> None:
        """Note that a batch of this lane has been sent."""

    def withdrawn(self) -> None:
        """Note that a request has left this lane without being sent."""


class Lane(Protocol):
    """A queue before the workers."""

    @property
    def waiting(self) -> int:
        """Requests in it."""

    def dispatch_soon(self) -> None:
        """Send what may be sent, soon."""


class Sharing:
    """The rules for one list of workers before which two lanes wait.

    Attributes:
        predictions: the lane of predictions, set once it is made.
        explanations: the lane of explanations, likewise.
    """

    predictions: Lane
    explanations: Lane

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        """Watch `workers`, a list that others keep up to date."""
        self._workers = workers
        self._not_before = 0.0
        self._predicted_since = False

    def done(self, batch: SentBatch, timing: Timing | None = None) -> None:
        """Note that a worker is through with a batch, or has died of it; the other lane may have its turn.

        Args:
            timing: what the batch took, without what it gave way to; None if nobody has told.
        """
        self._predicted_since = not is_explanation(batch)
        if is_explanation(batch):
            now = time.monotonic()
            elapsed = now - batch.taken_at
            spent = timing.decode + timing.inference + timing.encode if timing else elapsed
            self._not_before = now + spent / _SHARE - elapsed
        self.wake()

    def wake(self) -> None:
        """Let both lanes look whether they may send something."""
        for lane in (self.predictions, self.explanations):
            if lane.waiting:
                lane.dispatch_soon()

    def explanations_due(self) -> bool:
        """Return whether the next worker that is free must take an explanation."""
        if not self.explanations.waiting or not self._predicted_since or not self.has_room():
            return False
        return time.monotonic() >= self._not_before

    def others_predict(self, worker: WorkerProcess) -> bool:
        """Return whether predictions have another worker than `worker`."""
        return any(other.alive and not is_explaining(other) for other in self._workers if other is not worker)

    def has_room(self) -> bool:
        """Return whether one more worker may explain."""
        alive = sum(worker.alive for worker in self._workers)
        return sum(map(is_explaining, self._workers)) < max(1, alive - 1)


class PredictionTurns(Turns):
    """The turns of the lane of predictions."""

    def __init__(self, sharing: Sharing) -> None:
        """Follow the rules of `sharing`."""
        self._sharing = sharing

    def allows(self, worker: WorkerProcess) -> bool:
        """Return whether `worker` may be given predictions: not before an explanation that is due."""
        if is_explaining(worker):
            return worker.inflight[0].gives_way
        return not self._sharing.explanations_due()

    def held(self, worker: WorkerProcess) -> int:
        """Count predictions alone, as an explanation gives way to them; not that of one among others.

        There it counts, so that only full batches go to it: with passes of its own it is the slower one.
        """
        gives_way = is_explaining(worker) and not self._sharing.others_predict(worker)
        return len(worker.inflight) - gives_way

    def ordered(self, workers: Sequence[WorkerProcess]) -> Sequence[WorkerProcess]:
        """Put workers that explain last: it takes them a pass to listen."""
        return sorted(workers, key=is_explaining)

    def taken(self) -> None:
        """Do nothing: the lane of explanations looks again when the batch is answered."""

    def withdrawn(self) -> None:
        """Let explanations have the worker that was kept for it: no answer will."""
        self._sharing.wake()


class ExplanationTurns(Turns):
    """The turns of the lane of explanations."""

    def __init__(self, sharing: Sharing) -> None:
        """Follow the rules of `sharing`."""
        self._sharing = sharing

    def allows(self, worker: WorkerProcess) -> bool:
        """Return whether `worker` may explain: it is free, and predictions do not need it."""
        sharing = self._sharing
        if worker.inflight or not sharing.has_room():
            return False
        return not sharing.predictions.waiting or sharing.explanations_due()

    def taken(self) -> None:
        """Let predictions have the other workers, which may have been kept for this explanation."""
        if self._sharing.predictions.waiting:
            self._sharing.predictions.dispatch_soon()

    def withdrawn(self) -> None:
        """Let predictions have the worker that was kept for it."""
        self._sharing.wake()


def is_explanation(batch: SentBatch) -> bool:
    """Return whether a batch is one of explanations."""
    return batch.jobs[0].request.verb is Verb.EXPLAIN


def is_explaining(worker: WorkerProcess) -> bool:
    """Return whether a worker runs an explanation."""
    return bool(worker.inflight) and is_explanation(worker.inflight[0])
