"""What happened between two looks at a server."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from predictor.telemetry.families import quantile
from predictor.top.snapshot import Buckets, ModelCounts, Snapshot

_STAGES = ("queue", "batch_wait", "decode", "inference", "encode")


@dataclasses.dataclass(frozen=True)
class ModelRates:
    """One version of one model.

    Rates are None after the first look; latencies and sizes, without a request since the last look, too.

    Attributes:
        model, version: its names.
        now: what is true at the moment.
        requests: answers in a second.
        errors: those of them that were the server's fault or overload (5xx), in a second.
        p50, p99: seconds from a request's head to its answer's end.
        batch: requests in a batch, on average.
        stages: mean seconds of an inference in each stage, in their order.
    """

    model: str
    version: str
    now: ModelCounts
    requests: float | None = None
    errors: float | None = None
    p50: float | None = None
    p99: float | None = None
    batch: float | None = None
    stages: dict[str, float] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it with plain names and units, for scripts."""
        now = self.now
        return {
            "model": self.model,
            "version": self.version,
            "state": now.state,
            "workers": now.workers,
            "worker_restarts": int(now.restarts),
            "worker_memory_bytes": int(now.memory),
            "queue_depth": int(now.queue),
            "queue_capacity": int(now.capacity),
            "in_flight": int(now.in_flight),
            "requests_total": int(sum(now.answers.values())),
            "requests_per_second": self.requests,
            "errors_per_second": self.errors,
            "latency_p50_seconds": self.p50,
            "latency_p99_seconds": self.p99,
            "batch_size": self.batch,
            "stage_seconds": self.stages,
        }


def compare(before: Snapshot | None, now: Snapshot) -> list[ModelRates]:
    """Return the rates of every model, by name and version.

    Without a look before, or after a restart of the server, latencies are those since its start.
    """
    rows = []
    for (name, version), counts in sorted(now.models.items()):
        old = before.models.get((name, version)) if before is not None else None
        seconds = now.taken - before.taken if before is not None and old is not None else 0.0
        if old is not None and counts.durations.count < old.durations.count:
            old, seconds = None, 0.0
        rows.append(_rates(name, version, old or ModelCounts(), counts, seconds))
    return rows


def _rates(name: str, version: str, old: ModelCounts, now: ModelCounts, seconds: float) -> ModelRates:
    def grown(statuses: dict[str, float], earlier: dict[str, float]) -> float:
        return sum(max(0.0, value - earlier.get(status, 0.0)) for status, value in statuses.items())

    failed = {status: value for status, value in now.answers.items() if _is_error(status)}
    durations, batches = _since(now.durations, old.durations), _since(now.batches, old.batches)
    stages = {}
    for stage in _STAGES:
        spent = _since(now.stages.get(stage, Buckets()), old.stages.get(stage, Buckets()))
        if spent.count:
            stages[stage] = spent.sum / spent.count
    return ModelRates(
        name,
        version,
        now,
        grown(now.answers, old.answers) / seconds if seconds > 0 else None,
        grown(failed, old.answers) / seconds if seconds > 0 else None,
        _quantile(durations, 0.5),
        _quantile(durations, 0.99),
        batches.sum / batches.count if batches.count else None,
        stages,
    )


def _since(now: Buckets, old: Buckets) -> Buckets:
    bounds = {bound: max(0.0, count - old.bounds.get(bound, 0.0)) for bound, count in now.bounds.items()}
    return Buckets(bounds, max(0.0, now.sum - old.sum), max(0.0, now.count - old.count))


def _quantile(histogram: Buckets, share: float) -> float | None:
    bounds = sorted(histogram.bounds)
    counts, before = [], 0.0
    for bound in bounds:
        counts.append(max(0.0, histogram.bounds[bound] - before))
        before = max(before, histogram.bounds[bound])
    value = quantile(bounds[:-1], [int(count) for count in counts], share)
    return None if math.isnan(value) else value


def _is_error(status: str) -> bool:
    """Return whether a status is a failure of the server: 5xx, or gRPC's own names for that."""
    return status.startswith("5") or status in ("INTERNAL", "UNAVAILABLE", "UNKNOWN", "DATA_LOSS")
