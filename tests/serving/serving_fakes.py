"""What tests of the serving package share: models without processes, workers that obey the test."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

from predictor.archives.archive import ModelArchive
from predictor.archives.manifest import Manifest
from predictor.archives.model_config import ModelConfig
from predictor.ipc.messages import (
    Envelope,
    InferenceRequest,
    InferenceResult,
    Load,
    Loaded,
    LoadFailed,
    ModelInfo,
    Results,
    Verb,
)
from predictor.serving.job import Job
from predictor.serving.worker import WorkerState


def archive(
    name: str = "m", version: str = "1.0", folder: str = "/models/m", **config: object
) -> ModelArchive:
    path = Path(folder)
    return ModelArchive(name, version, path, path, Manifest(model_name=name), ModelConfig(**config))


def request(body: str = "", verb: Verb = Verb.PREDICT, envelope: Envelope = Envelope.V1) -> InferenceRequest:
    return InferenceRequest(f"id-{body}", verb, envelope, body=body.encode())


def bodies(jobs: list[Job]) -> list[str]:
    return [job.request.body.decode() for job in jobs]


class FakeWorker:
    """Stands in for `WorkerProcess`: the test says when it loads, answers and dies."""

    def __init__(self, owner, number, python=""):
        self.owner, self.number = owner, number
        self.state = WorkerState.STARTING
        self.inflight = deque()
        self.load_error = None
        self.timed_out = False
        self.was_killed_by_others = False
        self.loaded = None
        self.started_at = self.started_on = 0.0
        self.pid = 1000 + number
        self.gpu_id: int | None = None
        self.load: Load | None = None
        self.cancelled: list[str] = []
        self.batches: list[list[str]] = []
        self.stopped = False

    alive = property(lambda self: self.state in (WorkerState.READY, WorkerState.BUSY))

    async def start(self, load, startup_timeout):
        self.started_at = asyncio.get_running_loop().time()
        self.load = load

    def send(self, batch):
        assert self.alive, "a batch was sent to a worker that is not ready"
        self.inflight.append(batch)
        self.batches.append(bodies(batch.jobs))
        self.state = WorkerState.BUSY

    def cancel(self, job):
        self.cancelled.append(job.request.body.decode())

    async def stop(self, grace):
        self.stopped = True

    def kill(self):
        self.die()

    def describe_end(self):
        return "was killed: its response took too long" if self.timed_out else "exited with code 7"

    # what the test makes it do

    def become_ready(self, info: ModelInfo | None = None):
        self.state = WorkerState.READY
        self.loaded = Loaded("cpu", 0.1, info or ModelInfo())
        self.owner.worker_loaded(self, self.loaded)

    def fail_to_load(self, reason="could not load its model: OSError: no"):
        self.load_error = LoadFailed(reason)
        self.die()

    def give_way(self):
        """Say that the explanation lets others go first."""
        self.inflight[0].gives_way = True
        self.owner.worker_gives_way(self)

    def answer_between(self):
        """Answer the batch behind the explanation, which goes on."""
        batch = self.inflight[1]
        del self.inflight[1]
        own = [InferenceResult(body=job.request.body) for job in batch.jobs]
        self.owner.worker_answered(self, batch, Results(batch.id, own))

    def answer(self, *results: InferenceResult | None):
        """Answer the oldest batch: with `results`, else with each request's own body."""
        batch = self.inflight.popleft()
        if not self.inflight:
            self.state = WorkerState.READY
        own = [InferenceResult(body=job.request.body) for job in batch.jobs]
        self.owner.worker_answered(self, batch, Results(batch.id, list(results) or own))

    def die(self, timed_out=False):
        self.timed_out = timed_out
        self.state = WorkerState.DEAD
        self.owner.worker_lost(self)


async def settle(turns: int = 5) -> None:
    """Let everything that is due on the loop run."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until `condition` holds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.001)
