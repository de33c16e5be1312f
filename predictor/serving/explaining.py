"""Workers that only explain: started after those that predict, and of no weight for their health."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from predictor.archives.archive import ModelArchive
from predictor.errors import ModelNotReady, PredictorError
from predictor.ipc.messages import Results
from predictor.serving.batch import SentBatch
from predictor.serving.lanes import Lanes, explanation_policy
from predictor.serving.policy import ServingPolicy
from predictor.serving.pool import WorkerOptions, WorkerPool
from predictor.serving.worker import WorkerProcess

# Keys of the section `explain` of a model-config.yaml that are the front end's: what they must be.
SERVING_KEYS: Mapping[str, str] = {
    "workers": "a whole number of processes",
    "queue_size": "a whole number of requests",
    "timeout": "a number of seconds",
    "device": "auto or cpu",
}


def read_serving_keys(section: Any) -> dict[str, Any]:
    """Return what the section `explain` of a model-config.yaml says to the front end.

    Raises:
        ValueError: a value cannot be used; the text names its key.
    """
    found: dict[str, Any] = {}
    for key, kind in SERVING_KEYS.items() if isinstance(section, Mapping) else ():
        value = section.get(key)
        if value is None:
            continue
        if key == "device":
            good = value in ("auto", "cpu")
        else:
            numbers = (int, float) if key == "timeout" else int
            good = isinstance(value, numbers) and not isinstance(value, bool) and value >= 0
        if not good:
            raise ValueError(f"explain.{key} must be {kind}, got {value!r}")
        found[key] = value
    return found


class ExplanationWorkers:
    """A pool of workers for a model's explanations alone; its troubles are never those of predictions.

    Attributes:
        pool: the processes.
        lanes: where requests wait, set once it is made.
    """

    lanes: Lanes

    def __init__(self, archive: ModelArchive, policy: ServingPolicy, options: WorkerOptions) -> None:
        """Prepare `policy.explain_workers` workers; nothing runs before `start_after`."""
        options = dataclasses.replace(options, requirements=None)
        self.pool = WorkerPool(archive, explanation_policy(policy), options, self, "explaining ")
        self._name = archive.name
        self._starting: asyncio.Task[None] | None = None
        self._started = False

    def start_after(self, predicting: WorkerPool) -> None:
        """Start the workers once those of `predicting` have loaded, or have failed to."""
        self._starting = asyncio.get_running_loop().create_task(self._start(predicting))

    def refusal(self) -> PredictorError | None:
        """Return why no explanation can be queued, None while one would be answered."""
        pool = self.pool
        coming = not pool.exhausted and not pool.failure and (pool.any_coming or not self._started)
        if pool.any_alive or coming:
            return None
        reason = pool.failure or "it has no worker that explains"
        return ModelNotReady(f"model '{self._name}' cannot explain: {reason}", self._name)

    async def stop(self) -> None:
        """Let every worker finish what it holds, and start no other."""
        self._cancel_start()
        await self.pool.stop()

    def kill(self) -> None:
        """End all workers at once."""
        self._cancel_start()
        self.pool.kill()

    # PoolOwner

    def worker_ready(self) -> None:
        """Send what has been waiting."""
        self.lanes.explanations.dispatch_soon()

    def worker_answered(self, worker: WorkerProcess, batch: SentBatch, message: Results) -> None:
        """Pass the answers on."""
        self.lanes.answered(batch, message)

    def worker_lost(self, worker: WorkerProcess, batches: list[SentBatch], reason: str) -> None:
        """Answer for what the dead worker held."""
        self.lanes.explanations.rescue(worker, batches, reason)

    def gave_up(self) -> None:
        """Answer those who wait in vain."""
        self.lanes.explanations.fail_waiting(
            ModelNotReady(f"model '{self._name}' has no worker left that explains", self._name)
        )

    # private

    async def _start(self, predicting: WorkerPool) -> None:
        await predicting.settled()
        self.pool.extra_paths = predicting.extra_paths
        self._started = True
        await self.pool.start()

    def _cancel_start(self) -> None:
        self._started = True
        if self._starting is not None:
            self._starting.cancel()
