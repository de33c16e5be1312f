"""The queues before the workers of one model version: one of predictions, one of explanations."""

from __future__ import annotations

import dataclasses

from predictor.errors import PredictorError
from predictor.ipc.messages import InferenceRequest, Results, Verb
from predictor.serving.batch import SentBatch
from predictor.serving.batcher import Batcher
from predictor.serving.job import Job
from predictor.serving.meter import ModelMeter
from predictor.serving.policy import ServingPolicy
from predictor.serving.turns import ExplanationTurns, PredictionTurns, Sharing
from predictor.serving.worker import WorkerProcess

# Explanation workers give way to everything else that wants a core.
_NICENESS = 10


def explanation_policy(policy: ServingPolicy) -> ServingPolicy:
    """Return the numbers by which a model's explanations are served, with workers of their own or without.

    Explanations that share the predictions' workers are sent one by one, so that a prediction never
    waits for a whole batch of them.
    """
    own = bool(policy.explain_workers)
    return dataclasses.replace(
        policy,
        min_workers=policy.explain_workers,
        max_workers=policy.explain_workers,
        batch_size=policy.batch_size if own else 1,
        max_batch_delay=0.0,
        queue_size=policy.explain_queue_size or policy.queue_size,
        response_timeout=policy.explain_timeout or policy.response_timeout,
        prefetch=0,
        job_tickets=False,
        gpu_ids=() if policy.explain_on_cpu else policy.gpu_ids,
        niceness=_NICENESS if own else policy.niceness,
    )


def has_one_lane(policy: ServingPolicy) -> bool:
    """Return whether explanations queue with predictions: the order of calls, or the worker, matters."""
    return policy.continuous or policy.sequences is not None


class Lanes:
    """Sends requests into the right queue, and what workers say back to it.

    Attributes:
        predictions: the queue of predictions and descriptions.
        explanations: the queue of explanations; the same one for stateful models and continuous batching.
    """

    def __init__(
        self,
        name: str,
        policy: ServingPolicy,
        workers: list[WorkerProcess],
        own: list[WorkerProcess] | None = None,
        meter: ModelMeter | None = None,
    ) -> None:
        """Queue the requests of model `name` before `workers`.

        Args:
            own: workers that only explain; None lets both lanes share `workers`.
            meter: what measures the answers, None for nothing.
        """
        self._meter = meter
        self._workers = workers
        self._own = own
        self._sharing: Sharing | None = None
        if has_one_lane(policy):
            self.predictions = self.explanations = Batcher(name, policy, workers)
        elif own is not None:
            self.predictions = Batcher(name, policy, workers)
            self.explanations = Batcher(name, explanation_policy(policy), own)
        else:
            sharing = self._sharing = Sharing(workers)
            self.predictions = Batcher(name, policy, workers, PredictionTurns(sharing))
            turns = ExplanationTurns(sharing)
            self.explanations = Batcher(name, explanation_policy(policy), workers, turns)
            sharing.predictions, sharing.explanations = self.predictions, self.explanations

    @property
    def all(self) -> tuple[Batcher, ...]:
        """The queues, each once."""
        single = self.predictions is self.explanations
        return (self.predictions,) if single else (self.predictions, self.explanations)

    @property
    def waiting(self) -> int:
        """Requests in the queues."""
        return sum(lane.waiting for lane in self.all)

    @property
    def running(self) -> int:
        """Requests that workers hold."""
        held = (worker.inflight for worker in (*self._workers, *(self._own or ())))
        return sum(len(batch.jobs) for inflight in held for batch in inflight)

    def submit(self, request: InferenceRequest) -> Job:
        """Queue a request.

        Raises:
            QueueFull: as many of its kind wait as may.
        """
        return self._lane(request).submit(request)

    def cancel(self, job: Job) -> None:
        """Forget a request whose client has gone; it is not computed unless it already runs."""
        self._lane(job.request).cancel(job)

    def wake(self) -> None:
        """Send what waits: a worker is ready."""
        for lane in self.all:
            lane.dispatch_soon()

    def answered(self, batch: SentBatch, message: Results) -> None:
        """Hand the answers of a batch to their requests."""
        if self._meter is not None:
            self._meter.answered(batch, message)
        if self._sharing is not None:
            self._sharing.done(batch, message.timing)
        self._lane(batch.jobs[0].request).answered(batch, message)

    def rescue(self, worker: WorkerProcess, batches: list[SentBatch], reason: str) -> None:
        """Queue again what a dead worker left undone, or answer it with an error; see `Batcher.rescue`."""
        if self._sharing is not None:
            for batch in batches:
                self._sharing.done(batch)
        gave_way = any(batch.gives_way for batch in batches)
        for lane in self.all:
            mine = [batch for batch in batches if self._lane(batch.jobs[0].request) is lane]
            lane.rescue(worker, mine, reason, between=gave_way and lane is not self.explanations)

    def fail_waiting(self, error: PredictorError) -> None:
        """Answer everything in the queues with `error`."""
        for lane in self.all:
            lane.fail_waiting(error)

    def _lane(self, request: InferenceRequest) -> Batcher:
        return self.explanations if request.verb is Verb.EXPLAIN else self.predictions
