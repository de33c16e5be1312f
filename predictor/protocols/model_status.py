"""What TorchServe's management API says of a model: its settings, its workers, its queue.

The keys and their order are those of a running TorchServe 0.12.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]

from predictor.serving.model import ServedModel
from predictor.serving.worker import WorkerProcess

# TorchServe's word for a worker that does not answer (yet, or any more).
_NOT_READY = "UNLOADING"


def model_status(model: ServedModel) -> dict[str, Any]:
    """Return what `GET /models/{model}` says of one version."""
    policy, config = model.policy, model.archive.config
    sequences = policy.sequences
    return {
        "modelName": model.name,
        "modelVersion": model.version,
        "modelUrl": model.url,
        "runtime": model.archive.manifest.runtime,
        "minWorkers": policy.min_workers,
        "maxWorkers": policy.max_workers,
        "batchSize": policy.batch_size,
        "maxBatchDelay": _whole(policy.max_batch_delay * 1000),
        "responseTimeout": _whole(policy.response_timeout),
        "startupTimeout": _whole(policy.startup_timeout),
        "maxRetryTimeoutInSec": _whole(policy.max_retry_timeout),
        "clientTimeoutInMills": _whole(policy.client_timeout * 1000),
        "parallelType": config.parallel_type or "",
        "parallelLevel": config.parallel_level or 0,
        "deviceType": "gpu" if policy.gpu_ids else "cpu",
        "continuousBatching": policy.continuous,
        "useJobTicket": policy.job_tickets,
        "useVenv": bool(config.use_venv),
        "stateful": sequences is not None,
        "sequenceMaxIdleMSec": _whole(sequences.max_idle * 1000) if sequences else 0,
        "sequenceTimeoutMSec": config.sequence_timeout or 0,
        "maxNumSequence": sequences.max_sequences if sequences else 0,
        "maxSequenceJobQueueSize": sequences.queue_size if sequences else 0,
        "loadedAtStartup": model.at_startup,
        "workers": [_worker(worker) for worker in model.workers],
        "jobQueueStatus": {
            "remainingCapacity": max(0, policy.queue_size - model.waiting),
            "pendingRequests": model.waiting,
        },
    }


def _worker(worker: WorkerProcess) -> dict[str, Any]:
    started = dt.datetime.fromtimestamp(worker.started_on, dt.timezone.utc)
    return {
        "id": str(worker.number),
        "startTime": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "status": "READY" if worker.alive else _NOT_READY,
        "memoryUsage": _memory(worker.pid),
        "pid": worker.pid,
        "gpu": worker.gpu_id is not None,
        "gpuUsage": "N/A" if worker.gpu_id is None else f"gpuId::{worker.gpu_id}",
    }


def _memory(pid: int) -> int:
    """Return the bytes that a process has in memory, 0 when it has gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid else 0
    except psutil.Error:
        return 0


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number
