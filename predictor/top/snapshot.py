"""One look at a server: what its `/metrics` said at one moment."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

Key = tuple[str, str]

_STAGES = "predictor_stage_duration_seconds"


class NotOurs(Exception):
    """The text is no metrics, or not a predictor's."""


@dataclasses.dataclass
class Buckets:
    """A histogram's cumulative counts by upper bound, its sum, and how much it has counted."""

    bounds: dict[float, float] = dataclasses.field(default_factory=dict)
    sum: float = 0.0
    count: float = 0.0


@dataclasses.dataclass
class ModelCounts:
    """What is told of one version of one model; times in seconds.

    Attributes:
        state: ready, loading and so on; "" where nothing tells.
        workers: processes by state.
        answers: requests by the status of their answer, all protocols and verbs together.
        durations: of those requests.
        stages: of inferences, by stage.
        batches: sizes.
        memory: resident bytes of its workers.
    """

    state: str = ""
    workers: dict[str, int] = dataclasses.field(default_factory=dict)
    restarts: float = 0.0
    queue: float = 0.0
    capacity: float = 0.0
    in_flight: float = 0.0
    answers: dict[str, float] = dataclasses.field(default_factory=dict)
    durations: Buckets = dataclasses.field(default_factory=Buckets)
    stages: dict[str, Buckets] = dataclasses.field(default_factory=dict)
    batches: Buckets = dataclasses.field(default_factory=Buckets)
    memory: float = 0.0


@dataclasses.dataclass
class GpuState:
    """One GPU; `utilization` is 0 to 1, None where the driver does not tell; memory in bytes."""

    name: str = ""
    utilization: float | None = None
    used: float = 0.0
    total: float = 0.0


@dataclasses.dataclass
class Snapshot:
    """See the module.

    Attributes:
        taken: clock at that moment, in seconds (`time.monotonic`).
        models: by name and version.
        gpus: by number.
        ready: whether every model answers.
        version: the server's.
        cpu: per cent of all cores in use, None where nothing tells.
        memory: per cent in use, likewise.
        complete: False where only names and states are known.
    """

    taken: float
    models: dict[Key, ModelCounts] = dataclasses.field(default_factory=dict)
    gpus: dict[str, GpuState] = dataclasses.field(default_factory=dict)
    ready: bool = False
    version: str = ""
    cpu: float | None = None
    memory: float | None = None
    complete: bool = True


def read_metrics(text: str, taken: float | None = None) -> Snapshot:
    """Read what `/metrics` said; `taken` is now by default.

    Raises:
        NotOurs: it said something else.
    """
    snapshot = Snapshot(time.monotonic() if taken is None else taken)
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                _take(snapshot, sample.name, sample.labels, float(sample.value))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise NotOurs(f"what /metrics says cannot be read: {error}") from error
    if not snapshot.version:
        raise NotOurs("/metrics is not a predictor's: it has no predictor_build_info")
    return snapshot


def read_index(models: Iterable[Mapping[str, Any]]) -> Snapshot:
    """Read KServe's repository index, which knows states alone."""
    snapshot = Snapshot(time.monotonic(), complete=False)
    for model in models:
        key = (str(model.get("name", "")), str(model.get("version", "")))
        snapshot.models[key] = ModelCounts(state=str(model.get("state", "")).lower())
    snapshot.ready = all(model.state == "ready" for model in snapshot.models.values())
    return snapshot


def _take(snapshot: Snapshot, name: str, labels: Mapping[str, str], value: float) -> None:
    if name.startswith("predictor_gpu_"):
        _take_gpu(snapshot.gpus.setdefault(labels["gpu"], GpuState(labels.get("name", ""))), name, value)
    elif name == "predictor_ready":
        snapshot.ready = bool(value)
    elif name == "predictor_build_info":
        snapshot.version = labels["version"]
    elif name == "CPUUtilization":
        snapshot.cpu = value
    elif name == "MemoryUtilization":
        snapshot.memory = value
    elif name.startswith("predictor_") and labels.get("model"):
        key = (labels["model"], labels.get("version", ""))
        _take_model(snapshot.models.setdefault(key, ModelCounts()), name, labels, value)


def _take_gpu(gpu: GpuState, name: str, value: float) -> None:
    if name == "predictor_gpu_utilization_ratio":
        gpu.utilization = value
    elif name == "predictor_gpu_memory_used_bytes":
        gpu.used = value
    elif name == "predictor_gpu_memory_total_bytes":
        gpu.total = value


def _take_model(model: ModelCounts, name: str, labels: Mapping[str, str], value: float) -> None:
    if name == "predictor_model_state":
        model.state = labels["state"] if value else model.state
    elif name == "predictor_workers":
        model.workers[labels["state"]] = int(value)
    elif name == "predictor_requests_total":
        if labels.get("verb"):
            model.answers[labels["status"]] = model.answers.get(labels["status"], 0.0) + value
    elif name == "predictor_worker_memory_bytes":
        model.memory += value
    elif name in _PLAIN:
        setattr(model, _PLAIN[name], value)
    else:
        _take_histogram(model, name, labels, value)


_PLAIN = {
    "predictor_worker_restarts_total": "restarts",
    "predictor_queue_depth": "queue",
    "predictor_queue_capacity": "capacity",
    "predictor_requests_in_flight": "in_flight",
}


def _take_histogram(model: ModelCounts, name: str, labels: Mapping[str, str], value: float) -> None:
    base, _, part = name.rpartition("_")
    if base == "predictor_request_duration_seconds" and labels.get("verb"):
        histogram = model.durations
    elif base == "predictor_batch_size":
        histogram = model.batches
    elif base == _STAGES:
        histogram = model.stages.setdefault(labels["stage"], Buckets())
    else:
        return
    if part == "bucket":
        bound = float(labels["le"])
        histogram.bounds[bound] = histogram.bounds.get(bound, 0.0) + value
    elif part == "sum":
        histogram.sum += value
    elif part == "count":
        histogram.count += value
