"""Whose turn a worker is when predictions and explanations share the workers of a model.

An explanation costs as much as two to a thousand predictions, so:

* a worker takes one explanation at a time, only when it holds nothing else, and nothing is sent behind
  it: a prediction waits for one explanation at most, and only where no other worker is free;
* of several workers one is never given an explanation;
* where both wait, predictions go first, but explanations get a fifth of the time: they do not starve.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from predictor.ipc.messages import Verb
from predictor.serving.worker import SentBatch, WorkerProcess

# Of the workers' time that explanations get while predictions wait.
_SHARE = 0.2


class Turns:
    """Says whether a lane may use a worker now: any, for the only lane before its workers."""

    def allows(self, worker: WorkerProcess) -> bool:
        """Return whether `worker` may be given a batch of this lane."""
        return True

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

    def done(self, batch: SentBatch) -> None:
        """Note that a worker is through with a batch, or has died of it; the other lane may have its turn."""
        self._predicted_since = not is_explanation(batch)
        if is_explanation(batch):
            now = asyncio.get_running_loop().time()
            self._not_before = now + (now - batch.sent_at) * (1 - _SHARE) / _SHARE
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
        return asyncio.get_running_loop().time() >= self._not_before

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
        """Return whether `worker` may be given predictions: not behind an explanation, nor before one due."""
        return not is_explaining(worker) and not self._sharing.explanations_due()

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
