"""The worker processes of one model version: started, watched, scaled, started again, given up."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
from collections import Counter
from pathlib import Path
from typing import Protocol

from predictor.archives.archive import ModelArchive
from predictor.ipc.arena import Arena
from predictor.ipc.frames import FrameError
from predictor.ipc.messages import Load, Loaded, LoadFailed, ModelInfo, Results
from predictor.serving.batch import SentBatch
from predictor.serving.dependencies import DependencyError, install_requirements
from predictor.serving.policy import ServingPolicy
from predictor.serving.worker import WorkerProcess, WorkerState

logger = logging.getLogger(__name__)

# Seconds before a worker is started again after the n-th death in a row; the last one repeats.
_RESTART_DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# A worker that has lived this long, or has answered, ends a row of deaths.
_STABLE_SECONDS = 10.0


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
        log_metrics: what is measured is logged in TorchServe's form.
        arena: the memory in which it finds large bodies, None where there is none.
    """

    decode_input: bool = True
    limit_max_image_pixels: bool = True
    max_response_size: int = 6_553_500
    service_envelope: str = ""
    stop_grace: float = 30.0
    requirements: Path | None = None
    log_metrics: bool = False
    arena: Arena | None = None


class PoolOwner(Protocol):
    """Who is told what becomes of the workers."""

    def worker_ready(self) -> None:
        """A worker can be used: it has loaded the model, or the explanation that it runs gives way."""

    def worker_answered(self, worker: WorkerProcess, batch: SentBatch, message: Results) -> None:
        """A worker has answered a batch."""

    def worker_lost(self, worker: WorkerProcess, batches: list[SentBatch], reason: str) -> None:
        """A worker has ended and left `batches` undone, oldest first."""

    def gave_up(self) -> None:
        """No worker lives, and none will be started any more."""


class WorkerPool:
    """Keeps as many processes alive as are wanted: `min_workers` at first, see `scale`.

    Attributes:
        workers: those that live or start, or finish what they hold before they leave.
        info: what the model says of itself; empty until a worker has loaded it.
        device: where it runs, for people.
        failure: why the last attempt to load it failed, "" once one has succeeded.
        restarts: workers that were started in the place of dead ones.
        out_of_memory: whether it was for lack of memory.
        requirements_failure: why the archive's requirements could not be installed, "" if they could.
        exhausted: no worker could be kept alive for `max_retry_timeout`, and none is left.
        extra_paths: folders of the packages that were installed for the model.
    """

    def __init__(
        self,
        archive: ModelArchive,
        policy: ServingPolicy,
        options: WorkerOptions,
        owner: PoolOwner,
        kind: str = "",
    ) -> None:
        """Prepare workers for `archive`; nothing runs before `start`.

        Args:
            kind: put before "worker" in the log, with a space behind it.
        """
        self.workers: list[WorkerProcess] = []
        self.info = ModelInfo()
        self.device = ""
        self.failure = ""
        self.out_of_memory = False
        self.requirements_failure = ""
        self.exhausted = False
        self._given_up = False
        self.restarts = 0
        self._archive = archive
        self._policy = policy
        self._options = options
        self._owner = owner
        self._numbers = itertools.count()
        self.extra_paths: list[str] = []
        self._kind = kind
        self._wanted = policy.min_workers
        self._leaving: dict[WorkerProcess, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._deaths = 0
        self._short_since: float | None = None
        self._restarts: set[asyncio.Task[None]] = set()
        self._due: set[asyncio.Task[None]] = set()
        self._restarting = True
        self._settled = asyncio.Event()

    @property
    def any_alive(self) -> bool:
        """Whether a worker would take a batch now."""
        return any(worker.alive for worker in self.workers)

    @property
    def any_coming(self) -> bool:
        """Whether a worker lives, starts, or is about to be started."""
        return bool(self.workers or self._restarts)

    @property
    def was_settled(self) -> bool:
        """Whether the first attempt to load the model has succeeded or failed."""
        return self._settled.is_set()

    @property
    def healthy(self) -> bool:
        """TorchServe's rule for /ping: not short of workers for longer than maxRetryTimeoutInSec."""
        if self.exhausted:
            return False
        if self._short_since is None or self._enough_alive:
            return True
        return asyncio.get_running_loop().time() - self._short_since <= self._policy.max_retry_timeout

    async def start(self) -> None:
        """Start the workers; returns before they have loaded (see `settled`).

        The archive's requirements are installed first, where that is allowed.
        """
        self._short_since = asyncio.get_running_loop().time() if self._policy.min_workers else None
        if self._options.requirements is not None:
            await self._install_requirements(self._options.requirements)
        for _ in range(self._policy.min_workers):
            await self._start_worker()

    async def settled(self) -> None:
        """Wait until a worker is ready or the first attempt to load has failed."""
        if self._policy.min_workers:
            await self._settled.wait()

    async def scale(self, policy: ServingPolicy) -> None:
        """Keep as many workers as `policy` says from now on; returns before new ones have loaded.

        Workers that are too many take nothing new, finish what they hold and leave.
        """
        self._policy = policy
        self._wanted = min(max(self._wanted, policy.min_workers), policy.max_workers)
        self.exhausted, self._given_up, self.failure = False, False, ""
        if not self._staying:
            self._settled.clear()
        self._short_since = None if self._enough_alive else asyncio.get_running_loop().time()
        self._let_go(len(self._staying) + len(self._due) - self._wanted)
        while len(self._staying) + len(self._due) < self._wanted:
            await self._start_worker()

    async def reached(self) -> bool:
        """Wait until exactly the wanted workers live; False once one cannot be loaded, or kept alive."""
        while self.failure or self._leaving or sum(worker.alive for worker in self._staying) < self._wanted:
            if self.failure or self._given_up or not self._restarting:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    async def stop(self) -> None:
        """Let every worker finish what it holds, and start no other."""
        self.stop_restarting()
        await asyncio.gather(*(worker.stop(self._options.stop_grace) for worker in list(self.workers)))

    def stop_restarting(self) -> None:
        """Start no further worker, not even one that is due."""
        self._restarting = False
        self._changed.set()
        for task in self._restarts:
            task.cancel()

    def kill(self) -> None:
        """End all workers at once, whatever they hold."""
        self.stop_restarting()
        for worker in self.workers:
            worker.kill()

    # WorkerOwner

    def worker_loaded(self, worker: WorkerProcess, message: Loaded) -> None:
        """Take a new worker into service."""
        loop = asyncio.get_running_loop()
        self.info, self.device, self.failure = message.info, message.device, ""
        self._settled.set()
        self._changed.set()
        loop.call_later(_STABLE_SECONDS, self._end_row_of_deaths, worker)
        seconds = loop.time() - worker.started_at
        text = "%s: %sworker %d is ready on %s after %.1f s (pid %d)"
        logger.info(text, self._label, self._kind, worker.number, message.device, seconds, worker.pid)
        self._owner.worker_ready()

    def worker_answered(self, worker: WorkerProcess, batch: SentBatch, message: Results) -> None:
        """Pass an answer on; the worker has shown that it lives."""
        self._end_row_of_deaths(worker)
        self._owner.worker_answered(worker, batch, message)

    def worker_gives_way(self, worker: WorkerProcess) -> None:
        """Let predictions be sent to a worker that explains."""
        self._owner.worker_ready()

    def worker_lost(self, worker: WorkerProcess) -> None:
        """Say what the dead worker left undone, and start another."""
        self.workers.remove(worker)
        batches = list(worker.inflight)
        worker.inflight.clear()
        self._changed.set()
        if self._leaving.pop(worker, None) is not None:
            logger.info("%s: worker %d has left", self._label, worker.number)
            # What it leaves undone, if anything, is done by those that stay.
            self._owner.worker_lost(worker, batches, "left, because fewer workers are wanted")
            return
        if not self._restarting and not batches:
            return
        reason = worker.load_error.reason if worker.load_error else worker.describe_end()
        logger.error("%s: %sworker %d %s", self._label, self._kind, worker.number, reason)
        self._deaths += 1
        if worker.loaded is None:
            self.failure = reason
            self.out_of_memory = worker.was_killed_by_others or bool(
                worker.load_error and worker.load_error.out_of_memory
            )
            self._settled.set()
        self._owner.worker_lost(worker, batches, reason)
        self._restart_later()

    # private

    @property
    def _label(self) -> str:
        return f"model {self._archive.name} {self._archive.version}"

    @property
    def _staying(self) -> list[WorkerProcess]:
        """The workers that live or start, without those that are leaving."""
        return [worker for worker in self.workers if worker not in self._leaving]

    @property
    def _enough_alive(self) -> bool:
        return sum(worker.alive for worker in self._staying) >= self._policy.min_workers

    def _let_go(self, excess: int) -> None:
        """Send away `excess` workers: those not started yet first, then those with the least to do."""
        for task in list(self._due)[: max(0, excess)]:
            task.cancel()
            self._due.discard(task)
            self._restarts.discard(task)
            excess -= 1
        idlest = sorted(
            self._staying, key=lambda worker: (worker.alive, len(worker.inflight), -worker.number)
        )
        for worker in idlest[: max(0, excess)]:
            # Each batch that it holds may take its time; its own timer ends one that takes longer.
            grace = self._options.stop_grace + self._policy.response_timeout * len(worker.inflight)
            self._leaving[worker] = asyncio.ensure_future(worker.stop(grace))

    async def _install_requirements(self, folder: Path) -> None:
        try:
            installed = await install_requirements(self._archive, folder)
        except DependencyError as error:
            # The handler may still work: TorchServe, too, leaves that to the import that fails.
            logger.error("%s: %s", self._label, error)
            self.requirements_failure = str(error)
            return
        if installed is not None:
            logger.info("%s: its requirements are installed", self._label)
            self.extra_paths = [str(installed)]

    async def _start_worker(self) -> None:
        worker = WorkerProcess(self, next(self._numbers), self._options.arena)
        self.workers.append(worker)
        try:
            load = self._load()
            worker.gpu_id = load.gpu_id
            await worker.start(load, self._policy.startup_timeout)
        except (OSError, ValueError, OverflowError, TypeError, FrameError) as error:
            # No process, memory or file descriptor to be had just now; or a manifest or config with
            # something that no message can carry.
            worker.load_error = LoadFailed(f"could not be started: {type(error).__name__}: {error}")
            if worker.pid:
                worker.kill()
            else:
                self.worker_lost(worker)

    def _load(self) -> Load:
        """Return the order to load for the next worker, on the GPU that has the fewest."""
        busy = Counter(worker.gpu_id for worker in self._staying)
        gpus = sorted(self._policy.gpu_ids, key=lambda gpu: busy[gpu])
        archive = self._archive
        options = self._options
        return Load(
            model_name=archive.name,
            model_version=archive.version,
            directory=str(archive.directory.resolve()),
            manifest=dict(archive.manifest.raw),
            config=dict(archive.config.raw),
            gpu_id=gpus[0] if gpus else None,
            batch_size=self._policy.batch_size,
            threads=self._policy.threads,
            decode_input=options.decode_input,
            limit_max_image_pixels=options.limit_max_image_pixels,
            max_response_size=options.max_response_size,
            service_envelope=options.service_envelope,
            continuous=self._policy.continuous,
            stateful=self._policy.sequences is not None,
            extra_paths=self.extra_paths,
            niceness=self._policy.niceness,
            explain_timeout=self._policy.explain_timeout or self._policy.response_timeout,
            explain_max_rows=self._policy.explain_max_rows,
            log_metrics=options.log_metrics,
        )

    def _end_row_of_deaths(self, worker: WorkerProcess) -> None:
        """Forget earlier deaths: this worker has shown that it lives."""
        if (self._deaths or self._short_since is not None) and worker.alive:
            self._deaths = 0
            if self._enough_alive:
                self._short_since = None

    def _restart_later(self) -> None:
        """Start a worker in the place of a dead one, unless that has failed for too long."""
        loop = asyncio.get_running_loop()
        if self._short_since is None:
            self._short_since = loop.time()
        if not self._restarting or len(self._staying) + len(self._due) >= self._wanted:
            return
        if loop.time() - self._short_since > self._policy.max_retry_timeout:
            self._give_up()
            return
        delay = _RESTART_DELAYS[min(self._deaths, len(_RESTART_DELAYS)) - 1]
        task = loop.create_task(self._restart(delay))
        self._due.add(task)
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _restart(self, delay: float) -> None:
        if delay:
            logger.info("%s: starting a %sworker again in %.0f s", self._label, self._kind, delay)
        await asyncio.sleep(delay)
        # From here on the worker counts as one of `workers`, which it joins before anything is awaited.
        self._due -= {asyncio.current_task()}
        self.restarts += 1
        await self._start_worker()

    def _give_up(self) -> None:
        reason = self.failure or "its workers keep dying"
        seconds = self._policy.max_retry_timeout
        text = "%s: no %sworker could be kept alive for %.0f s; giving up: %s"
        logger.error(text, self._label, self._kind, seconds, reason)
        self._given_up = True
        if all(worker.state is WorkerState.DEAD for worker in self.workers):
            self.exhausted = True
            self._owner.gave_up()
