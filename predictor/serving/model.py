"""One version of one model, as the protocols see it."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import AsyncIterator

from predictor.archives.archive import ModelArchive
from predictor.errors import ModelNotReady, ShuttingDown
from predictor.ipc.messages import InferenceRequest, InferenceResult, ModelInfo, Results, Verb
from predictor.serving.batch import SentBatch
from predictor.serving.explaining import ExplanationWorkers
from predictor.serving.job import Job
from predictor.serving.lanes import Lanes, has_one_lane
from predictor.serving.meter import ModelMeter
from predictor.serving.policy import ServingPolicy
from predictor.serving.pool import WorkerOptions, WorkerPool
from predictor.serving.worker import WorkerProcess
from predictor.telemetry.record import CURRENT
from predictor.telemetry.torchserve import MetricLog

# Seconds between two looks at whether accepted requests are answered.
_LOOK_AGAIN = 0.02


class ModelState(enum.Enum):
    """LOADING -> READY <-> RECOVERING -> FAILED; any -> STOPPED; IDLE when no worker is wanted.

    RECOVERING has no worker that answers, but one is being restarted; FAILED has given that up.
    """

    IDLE = "IDLE"
    LOADING = "LOADING"
    READY = "READY"
    RECOVERING = "RECOVERING"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


class ServedModel:
    """A model version that answers requests: queues before a pool of workers, or two.

    Attributes:
        archive: the unpacked model.
        policy: its limits and times.
        meter: what its answers are measured by.
        url: where it came from, as its client or the configuration named it.
        at_startup: whether the server began with it.
    """

    def __init__(self, archive: ModelArchive, policy: ServingPolicy, options: WorkerOptions) -> None:
        """Prepare to serve `archive`; nothing runs before `start`."""
        self.archive = archive
        self.policy = policy
        self.options = options
        self.meter = ModelMeter(archive.name, MetricLog() if options.log_metrics else None)
        self.url = archive.source.name
        self.at_startup = False
        self._pool = WorkerPool(archive, policy, options, self)
        own = policy.explain_workers and not has_one_lane(policy)
        self._explaining = ExplanationWorkers(archive, policy, options) if own else None
        explaining = self._explaining.pool.workers if self._explaining else None
        self._lanes = Lanes(archive.name, policy, self._pool.workers, explaining, self.meter)
        if self._explaining:
            self._explaining.lanes = self._lanes
        self._stopping = False
        self._idling = False

    # what others may know

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.archive.name

    @property
    def version(self) -> str:
        """Version of the model."""
        return self.archive.version

    @property
    def info(self) -> ModelInfo:
        """What the model says of itself; empty until a worker has loaded it."""
        return self._pool.info

    @property
    def device(self) -> str:
        """Where it runs, for people."""
        return self._pool.device

    @property
    def failure(self) -> str:
        """Why the last attempt to load it failed, "" once one has succeeded."""
        return self._pool.failure

    @property
    def out_of_memory(self) -> bool:
        """Whether the last attempt to load it failed for lack of memory."""
        return self._pool.out_of_memory

    @property
    def requirements_failure(self) -> str:
        """Why its requirements.txt could not be installed, "" if it could, or need not be."""
        return self._pool.requirements_failure

    @property
    def workers(self) -> list[WorkerProcess]:
        """The workers that live or start; those that only explain left out."""
        return self._pool.workers

    @property
    def explanation_workers(self) -> list[WorkerProcess]:
        """The workers that only explain; empty where explanations share the others."""
        return self._explaining.pool.workers if self._explaining else []

    @property
    def restarts(self) -> int:
        """Workers that were started in the place of dead ones."""
        return self._pool.restarts + (self._explaining.pool.restarts if self._explaining else 0)

    @property
    def state(self) -> ModelState:
        """See `ModelState`."""
        if self._stopping:
            return ModelState.STOPPED
        if self._pool.any_alive:
            return ModelState.READY
        if self._pool.exhausted:
            return ModelState.FAILED
        if not self.policy.min_workers:
            return ModelState.IDLE
        return ModelState.RECOVERING if self._pool.was_settled else ModelState.LOADING

    @property
    def ready(self) -> bool:
        """Whether a request sent now would be answered by a live worker."""
        return self.state is ModelState.READY

    @property
    def healthy(self) -> bool:
        """TorchServe's rule for /ping; see `WorkerPool.healthy`."""
        return self._pool.healthy

    @property
    def waiting(self) -> int:
        """Requests in the queues."""
        return self._lanes.waiting

    @property
    def explanations_waiting(self) -> int:
        """Those of them that want an explanation."""
        return self._lanes.explanations.waiting

    @property
    def running(self) -> int:
        """Requests that workers hold."""
        return self._lanes.running

    # life

    async def start(self) -> None:
        """Start the workers; returns before they have loaded (see `settled`)."""
        await self._pool.start()
        if self._explaining:
            self._explaining.start_after(self._pool)

    async def settled(self) -> None:
        """Wait until a worker is ready or the first attempt to load has failed."""
        await self._pool.settled()

    async def scale(self, minimum: int, maximum: int, threads: int) -> None:
        """Keep between `minimum` and `maximum` workers from now on; see `reached`.

        Args:
            minimum: workers that must live.
            maximum: workers that may live; those above it finish what they hold and leave.
            threads: of each worker that is started from now on.

        Raises:
            ValueError: the numbers contradict each other.
        """
        self.policy = dataclasses.replace(
            self.policy, min_workers=minimum, max_workers=maximum, threads=threads
        )
        self._idling = maximum == 0
        while self._idling and self._waiting_for_pool and self._will_be_ready():
            await asyncio.sleep(_LOOK_AGAIN)
        await self._pool.scale(self.policy)
        self._answer_stranded()

    async def reached(self) -> bool:
        """Wait until as many workers live as are wanted; False as soon as one cannot be loaded."""
        return await self._pool.reached()

    async def stop(self, grace: float | None = None) -> None:
        """Refuse new requests, answer the accepted ones, then end the workers.

        Args:
            grace: seconds that accepted requests may take, None for those of the options.
        """
        self._stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.options.stop_grace if grace is None else grace)
        while (self.waiting or self.running) and loop.time() < deadline and self._any_coming:
            await asyncio.sleep(_LOOK_AGAIN)
        self._lanes.fail_waiting(ShuttingDown(f"model '{self.name}' is being stopped", self.name))
        await asyncio.gather(*(part.stop() for part in self._parts))

    def kill(self) -> None:
        """End all workers at once, whatever they hold."""
        self._stopping = True
        error = ShuttingDown("the server was stopped", self.name)
        self._lanes.fail_waiting(error)
        for worker in (*self.workers, *self.explanation_workers):
            for batch in worker.inflight:
                for job in batch.jobs:
                    job.fail(error)
        for part in self._parts:
            part.kill()

    # requests

    async def infer(self, request: InferenceRequest) -> InferenceResult:
        """Answer one request, whole; cancelling the caller withdraws it.

        Raises:
            PredictorError: see `predictor.errors` for which and when.
        """
        job, result = await self.begin(request)
        if job.stream is not None:
            result.body += b"".join([part.body async for part in self.parts(job)])
        return result

    async def begin(self, request: InferenceRequest) -> tuple[Job, InferenceResult]:
        """Submit a request and wait for its answer, or for the first part of a streamed one.

        Raises:
            PredictorError: as `infer`.
        """
        job = self.submit(request)
        try:
            return job, await job.future
        except asyncio.CancelledError:
            self.cancel(job)
            raise

    async def parts(self, job: Job) -> AsyncIterator[InferenceResult]:
        """Yield the parts of a streamed answer after the first; leaving early withdraws the request."""
        try:
            async for part in job.parts():
                yield part
        finally:
            self.cancel(job)

    def submit(self, request: InferenceRequest) -> Job:
        """Queue a request; `job.future` resolves to its answer.

        Raises:
            QueueFull: as many requests wait as may.
            ModelNotReady: there is no worker, and none is being started.
            ShuttingDown: the model is being stopped.
        """
        record = CURRENT.get()
        if record is not None:
            record.verb = request.verb.value
        if self._stopping:
            raise ShuttingDown(f"model '{self.name}' is being stopped", self.name)
        if self._explaining and request.verb is Verb.EXPLAIN:
            refusal = self._explaining.refusal()
            if refusal is not None:
                raise refusal
        elif self._idling or not self._will_be_ready():
            reason = self.failure or "it has no worker"
            raise ModelNotReady(f"model '{self.name}' is not ready: {reason}", self.name)
        return self._lanes.submit(request)

    def cancel(self, job: Job) -> None:
        """Forget a request whose client has gone; it is not computed unless it already runs."""
        self._lanes.cancel(job)

    # PoolOwner

    def worker_ready(self) -> None:
        """Send what has been waiting."""
        self._lanes.wake()

    def worker_answered(self, worker: WorkerProcess, batch: SentBatch, message: Results) -> None:
        """Pass the answers on."""
        self._lanes.answered(batch, message)

    def worker_lost(self, worker: WorkerProcess, batches: list[SentBatch], reason: str) -> None:
        """Save what the dead worker held."""
        self._lanes.rescue(worker, batches, reason)
        self._answer_stranded()

    def gave_up(self) -> None:
        """Answer those who wait in vain."""
        error = ModelNotReady(f"model '{self.name}' has no worker left", self.name)
        if self._explaining:
            self._lanes.predictions.fail_waiting(error)
        else:
            self._lanes.fail_waiting(error)

    # private

    @property
    def _parts(self) -> tuple[WorkerPool | ExplanationWorkers, ...]:
        return (self._pool, self._explaining) if self._explaining else (self._pool,)

    @property
    def _waiting_for_pool(self) -> int:
        """Requests in the queues that no worker but one of the pool may take."""
        return self._lanes.predictions.waiting if self._explaining else self._lanes.waiting

    def _answer_stranded(self) -> None:
        """Answer those who wait although no worker is wanted any more, and none is left to die."""
        if self._idling and not self._pool.any_coming:
            self.gave_up()

    @property
    def _any_coming(self) -> bool:
        """Whether a worker is left to answer what was accepted."""
        explaining = self._explaining is not None and self._explaining.pool.any_coming
        return self._pool.any_coming or explaining

    def _will_be_ready(self) -> bool:
        """Whether a request is worth queueing: a worker lives, or starts and has not failed to load."""
        pool = self._pool
        return pool.any_alive or (not pool.exhausted and not pool.failure and pool.any_coming)
