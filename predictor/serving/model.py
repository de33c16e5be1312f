"""One version of one model: its queue, its workers, and what happens when one of them dies."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import itertools
import logging
import math
from collections.abc import AsyncIterator
from pathlib import Path

from predictor.archives.archive import ModelArchive
from predictor.errors import (
    DeadlineExceeded,
    ModelNotReady,
    PredictorError,
    QueueFull,
    ResponseTimeout,
    ShuttingDown,
    WorkerDied,
    error_from_worker,
)
from predictor.ipc.messages import (
    InferenceRequest,
    InferenceResult,
    Load,
    Loaded,
    LoadFailed,
    ModelInfo,
    Results,
)
from predictor.serving.dependencies import DependencyError, install_requirements
from predictor.serving.job import Job, JobState
from predictor.serving.policy import ServingPolicy
from predictor.serving.queue import JobQueue, Queue
from predictor.serving.sequences import SequenceQueue
from predictor.serving.worker import SentBatch, WorkerProcess, WorkerState

logger = logging.getLogger(__name__)

# Seconds before a worker is started again after the n-th death in a row; the last one repeats.
_RESTART_DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# A worker that has lived this long, or has answered, ends a row of deaths.
_STABLE_SECONDS = 10.0


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


@dataclasses.dataclass(frozen=True)
class WorkerOptions:
    """What every worker of this server is told, whatever its model.

    Attributes:
        decode_input: whether bodies of JSON and text are decoded for handlers, as TorchServe does.
        limit_max_image_pixels: whether Pillow's guard against decompression bombs is on.
        max_response_size: bytes.
        service_envelope: TorchServe's global envelope, "" for none.
        stop_grace: seconds a worker may take to finish what it holds when it is stopped.
        requirements: folder below which the requirements.txt of archives are installed; None leaves
            them alone.
    """

    decode_input: bool = True
    limit_max_image_pixels: bool = True
    max_response_size: int = 6_553_500
    service_envelope: str = ""
    stop_grace: float = 30.0
    requirements: Path | None = None


class ServedModel:
    """A model version that answers requests through its worker processes.

    Attributes:
        archive: the unpacked model.
        policy: its limits and times.
        info: what its workers say of it; empty until the first one is ready.
        failure: why the last worker could not load the model, "" if it could.
    """

    def __init__(self, archive: ModelArchive, policy: ServingPolicy, options: WorkerOptions) -> None:
        """Prepare to serve `archive`; nothing runs before `start`."""
        self.archive = archive
        self.policy = policy
        self.options = options
        self.info = ModelInfo()
        self.device = ""
        self.failure = ""
        self.workers: list[WorkerProcess] = []
        self._queue: Queue = (
            SequenceQueue(policy.sequences) if policy.sequences else JobQueue(policy.queue_size)
        )
        self._extra_paths: list[str] = []
        self._stopping = False
        self._killed = False
        self._gave_up = False
        self._deaths = 0
        self._short_since: float | None = None
        self._batch_ids = itertools.count()
        self._worker_numbers = itertools.count()
        self._dispatch_scheduled = False
        self._delay_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        self._seconds_per_job = 0.0

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
    def state(self) -> ModelState:
        """See `ModelState`."""
        if self._stopping:
            return ModelState.STOPPED
        if any(worker.alive for worker in self.workers):
            return ModelState.READY
        if self._gave_up:
            return ModelState.FAILED
        if not self.policy.min_workers:
            return ModelState.IDLE
        return ModelState.RECOVERING if self._settled.is_set() else ModelState.LOADING

    @property
    def ready(self) -> bool:
        """Whether a request sent now would be answered by a live worker."""
        return self.state is ModelState.READY

    @property
    def healthy(self) -> bool:
        """TorchServe's rule for /ping: not short of workers for longer than maxRetryTimeoutInSec."""
        if self._gave_up:
            return False
        if self._short_since is None or self._enough_workers:
            return True
        return asyncio.get_running_loop().time() - self._short_since <= self.policy.max_retry_timeout

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Requests that workers hold."""
        return sum(len(batch.jobs) for worker in self.workers for batch in worker.inflight)

    # life

    async def start(self) -> None:
        """Start `min_workers` workers; returns before they have loaded (see `settled`).

        The archive's requirements are installed first, where that is allowed.
        """
        self._short_since = asyncio.get_running_loop().time() if self.policy.min_workers else None
        if self.options.requirements is not None:
            await self._install_requirements(self.options.requirements)
        for _ in range(self.policy.min_workers):
            await self._start_worker()

    async def settled(self) -> None:
        """Wait until a worker is ready or the first attempt to load has failed."""
        if self.policy.min_workers:
            await self._settled.wait()

    async def stop(self) -> None:
        """Refuse new requests, answer the accepted ones, then end the workers."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.options.stop_grace
        while (self.waiting or self.running) and loop.time() < deadline and self._can_still_answer():
            await asyncio.sleep(0.02)
        self._fail_waiting(ShuttingDown("the server is shutting down", self.name))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(worker.stop(self.options.stop_grace) for worker in list(self.workers)))

    def kill(self) -> None:
        """End all workers at once, whatever they hold."""
        self._stopping = self._killed = True
        self._fail_waiting(ShuttingDown("the server was stopped", self.name))
        for worker in self.workers:
            worker.kill()

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
        if self._stopping:
            raise ShuttingDown(f"model '{self.name}' is being stopped", self.name)
        if not self._will_be_ready():
            reason = self.failure or "it has no worker"
            raise ModelNotReady(f"model '{self.name}' is not ready: {reason}", self.name)
        loop = asyncio.get_running_loop()
        job = Job(request, loop)
        refusal = self._queue.refusal(job)
        if refusal is not None:
            raise QueueFull(f"model '{self.name}': {refusal}", self.name, self._retry_after())
        if self.policy.client_timeout:
            job.deadline_timer = loop.call_later(self.policy.client_timeout, self._expire, job)
        self._queue.push(job)
        self._dispatch_soon()
        return job

    def cancel(self, job: Job) -> None:
        """Forget a request whose client has gone; it is not computed unless it already runs."""
        if job.state is JobState.QUEUED:
            self._queue.discard(job)
        elif job.state is JobState.SENT:
            for worker in self.workers:
                worker.cancel(job)
        if job.state is not JobState.DONE:
            job.state = JobState.CANCELLED
            job.future.cancel()

    # WorkerOwner

    def worker_loaded(self, worker: WorkerProcess, message: Loaded) -> None:
        """Take a new worker into service."""
        self.info = message.info
        self.device = message.device
        self.failure = ""
        self._settled.set()
        asyncio.get_running_loop().call_later(_STABLE_SECONDS, self._end_row_of_deaths, worker)
        logger.info(
            "model %s %s: worker %d is ready on %s after %.1f s (pid %d)",
            self.name,
            self.version,
            worker.number,
            message.device,
            asyncio.get_running_loop().time() - worker.started_at,
            worker.pid,
        )
        self._dispatch_soon()

    def worker_answered(self, worker: WorkerProcess, batch: SentBatch, message: Results) -> None:
        """Hand the answers of a batch to their requests."""
        self._end_row_of_deaths(worker)
        now = asyncio.get_running_loop().time()
        for job, result in zip(batch.jobs, message.results, strict=True):
            self._queue.done(job)
            if result is None:
                continue
            self._measure(now - job.arrived)
            if result.error:
                job.fail(error_from_worker(result.error, result.message, result.status))
            else:
                job.finish(result)
        self._dispatch()

    def worker_lost(self, worker: WorkerProcess) -> None:
        """Save what the dead worker held, and start another."""
        self.workers.remove(worker)
        batches = list(worker.inflight)
        worker.inflight.clear()
        if self._stopping and not batches:
            return
        reason = worker.load_error.reason if worker.load_error else worker.describe_end()
        logger.error("model %s %s: worker %d %s", self.name, self.version, worker.number, reason)
        self._deaths += 1
        if worker.loaded is None:
            self.failure = reason
            self._settled.set()
        for position, batch in reversed(list(enumerate(batches))):
            was_running = position == 0 or self.policy.continuous
            self._recover(batch, was_running=was_running, worker=worker, reason=reason)
        self._queue.worker_lost(worker.number)
        self._dispatch_soon()
        self._restart_later()

    # private

    def _will_be_ready(self) -> bool:
        """Whether a request is worth queueing: a worker lives, or starts and has not failed to load."""
        if any(worker.alive for worker in self.workers):
            return True
        return not self._gave_up and not self.failure and bool(self.workers or self._tasks)

    def _can_still_answer(self) -> bool:
        return any(worker.state is not WorkerState.DEAD for worker in self.workers) or bool(self._tasks)

    async def _install_requirements(self, folder: Path) -> None:
        try:
            installed = await install_requirements(self.archive, folder)
        except DependencyError as error:
            # The handler may still work: TorchServe, too, leaves that to the import that fails.
            logger.error("model %s %s: %s", self.name, self.version, error)
            return
        if installed is not None:
            logger.info("model %s %s: its requirements are installed", self.name, self.version)
            self._extra_paths = [str(installed)]

    async def _start_worker(self) -> None:
        number = next(self._worker_numbers)
        worker = WorkerProcess(self, number)
        self.workers.append(worker)
        gpus = self.policy.gpu_ids
        archive = self.archive
        load = Load(
            model_name=archive.name,
            model_version=archive.version,
            directory=str(archive.directory.resolve()),
            manifest=dict(archive.manifest.raw),
            config=dict(archive.config.raw),
            gpu_id=gpus[number % len(gpus)] if gpus else None,
            batch_size=self.policy.batch_size,
            threads=self.policy.threads,
            decode_input=self.options.decode_input,
            limit_max_image_pixels=self.options.limit_max_image_pixels,
            max_response_size=self.options.max_response_size,
            service_envelope=self.options.service_envelope,
            continuous=self.policy.continuous,
            extra_paths=self._extra_paths,
        )
        try:
            await worker.start(load, self.policy.startup_timeout, self.policy.response_timeout)
        except OSError as error:
            # No process, no memory or no file descriptor to be had just now.
            worker.load_error = LoadFailed(f"could not be started: {error}")
            self.worker_lost(worker)

    @property
    def _enough_workers(self) -> bool:
        return sum(worker.alive for worker in self.workers) >= self.policy.min_workers

    def _end_row_of_deaths(self, worker: WorkerProcess) -> None:
        """Forget earlier deaths: this worker has shown that it lives."""
        if worker.alive:
            self._deaths = 0
            if self._enough_workers:
                self._short_since = None

    def _restart_later(self) -> None:
        """Start a worker in the place of a dead one, unless that has failed for too long."""
        now = asyncio.get_running_loop().time()
        if self._short_since is None:
            self._short_since = now
        if self._killed or (self._stopping and not self._queue):
            return
        if len(self.workers) + len(self._tasks) >= self.policy.min_workers:
            return
        if now - self._short_since > self.policy.max_retry_timeout:
            self._give_up()
            return
        delay = _RESTART_DELAYS[min(self._deaths, len(_RESTART_DELAYS)) - 1]
        task = asyncio.get_running_loop().create_task(self._restart(delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restart(self, delay: float) -> None:
        if delay:
            logger.info("model %s %s: starting a worker again in %.0f s", self.name, self.version, delay)
            await asyncio.sleep(delay)
        await self._start_worker()

    def _give_up(self) -> None:
        self._gave_up = not any(worker.state is not WorkerState.DEAD for worker in self.workers)
        logger.error(
            "model %s %s: no worker could be kept alive for %.0f s; giving up: %s",
            self.name,
            self.version,
            self.policy.max_retry_timeout,
            self.failure or "its workers keep dying",
        )
        if self._gave_up:
            self._fail_waiting(ModelNotReady(f"model '{self.name}' has no worker left", self.name))

    def _recover(self, batch: SentBatch, was_running: bool, worker: WorkerProcess, reason: str) -> None:
        """Queue the jobs of a dead worker again, or fail those that may not run twice."""
        again: list[Job] = []
        for job in batch.jobs:
            if self._killed:
                job.fail(ShuttingDown("the server was stopped", self.name))
            if was_running:
                self._queue.done(job)
            if job.state is not JobState.SENT:
                continue
            job.deaths += was_running
            if was_running and worker.timed_out:
                limit = self.policy.response_timeout
                job.fail(ResponseTimeout(f"model '{self.name}' did not answer within {limit:g} s"))
            elif self._is_late(job):
                self._expire_now(job)
            elif job.may_run_again and not (was_running and self.policy.sequences):
                job.state = JobState.QUEUED
                again.append(job)
            else:
                self._queue.done(job)
                job.fail(
                    WorkerDied(f"the worker of model '{self.name}' died during the request: it {reason}")
                )
        self._queue.push_front(again)

    def _fail_waiting(self, error: PredictorError) -> None:
        for job in self._queue.drain():
            job.fail(error)

    def _expire(self, job: Job) -> None:
        if job.state is JobState.QUEUED:
            self._queue.discard(job)
            self._expire_now(job)

    def _expire_now(self, job: Job) -> None:
        limit = self.policy.client_timeout
        job.fail(DeadlineExceeded(f"model '{self.name}': the request waited longer than {limit:g} s"))

    def _is_late(self, job: Job) -> bool:
        age = asyncio.get_running_loop().time() - job.arrived
        return 0 < self.policy.client_timeout <= age

    def _dispatch_soon(self) -> None:
        """Dispatch once the loop has read what other connections have to say: it may fill the batch."""
        if not self._dispatch_scheduled:
            self._dispatch_scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Send batches while there are jobs, and workers to take them.

        A free worker takes whatever may leave. A busy one is given only full batches ahead: a partial
        one would run as it is although more jobs arrive before its turn.
        """
        self._dispatch_scheduled = False
        if self._delay_timer is not None:
            self._delay_timer.cancel()
            self._delay_timer = None
        for held in range(self._capacity):
            for worker in self.workers:
                if worker.alive and len(worker.inflight) == held and not self._offer(worker):
                    break

    def _offer(self, worker: WorkerProcess) -> bool:
        """Give a worker the next batch if it may leave now; returns whether anything is left to offer."""
        size = 1 if self.policy.continuous else self.policy.batch_size
        delay = 0.0 if self.policy.continuous else self.policy.max_batch_delay
        ready_at = self._queue.ready_at(size, delay, worker.number)
        if ready_at is None or (worker.inflight and self._queue.next_size(size, worker.number) < size):
            return len(self._queue) > 0
        loop = asyncio.get_running_loop()
        if ready_at > loop.time():
            self._delay_timer = self._delay_timer or loop.call_at(ready_at, self._dispatch)
            return True
        jobs = self._queue.take(size, worker.number)
        for job in jobs:
            job.state = JobState.SENT
        worker.send(SentBatch(next(self._batch_ids), jobs))
        return len(self._queue) > 0

    @property
    def _capacity(self) -> int:
        """Batches that one worker may hold."""
        if self.policy.continuous:
            return self.policy.batch_size
        return 1 if self.policy.sequences else 1 + self.policy.prefetch

    def _measure(self, seconds: float) -> None:
        self._seconds_per_job += 0.1 * (seconds - self._seconds_per_job)

    def _retry_after(self) -> int:
        """Return the seconds after which a refused client may find a place, at least 1."""
        return max(1, min(30, math.ceil(self._seconds_per_job)))
