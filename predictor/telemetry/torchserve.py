"""TorchServe's metrics: names, units, labels, its metrics.yaml, and the lines of its metric logs.

The source is a running TorchServe 0.12 (`metrics_mode=prometheus`) and the format of its log files.
"""

from __future__ import annotations

import dataclasses
import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from predictor.telemetry.families import Family, Kind, Labels

logger = logging.getLogger(__name__)

HOSTNAME = socket.gethostname()


class MetricsFileError(Exception):
    """A metrics.yaml cannot be used; the text names the file and what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class TsMetric:
    """What TorchServe's own metrics.yaml declares of a metric.

    Attributes:
        labels: without the host's name, which comes last on `/metrics` and apart in logs.
        host_label: what that label is called.
    """

    kind: Kind
    unit: str
    labels: Labels
    host_label: str = "Hostname"


_INFERENCE = ("model_name", "model_version")
_HOST = ("Level",)
METRICS: Mapping[str, TsMetric] = {
    "ts_inference_requests_total": TsMetric(Kind.COUNTER, "Count", _INFERENCE, "hostname"),
    "ts_inference_latency_microseconds": TsMetric(Kind.COUNTER, "Microseconds", _INFERENCE, "hostname"),
    "ts_queue_latency_microseconds": TsMetric(Kind.COUNTER, "Microseconds", _INFERENCE, "hostname"),
    "Requests2XX": TsMetric(Kind.COUNTER, "Count", _HOST),
    "Requests4XX": TsMetric(Kind.COUNTER, "Count", _HOST),
    "Requests5XX": TsMetric(Kind.COUNTER, "Count", _HOST),
    "QueueTime": TsMetric(Kind.GAUGE, "Milliseconds", _HOST),
    "WorkerThreadTime": TsMetric(Kind.GAUGE, "Milliseconds", _HOST),
    "WorkerLoadTime": TsMetric(Kind.GAUGE, "Milliseconds", ("WorkerName", "Level")),
    "CPUUtilization": TsMetric(Kind.GAUGE, "Percent", _HOST),
    "MemoryUsed": TsMetric(Kind.GAUGE, "Megabytes", _HOST),
    "MemoryAvailable": TsMetric(Kind.GAUGE, "Megabytes", _HOST),
    "MemoryUtilization": TsMetric(Kind.GAUGE, "Percent", _HOST),
    "DiskUsage": TsMetric(Kind.GAUGE, "Gigabytes", _HOST),
    "DiskAvailable": TsMetric(Kind.GAUGE, "Gigabytes", _HOST),
    "DiskUtilization": TsMetric(Kind.GAUGE, "Percent", _HOST),
    "GPUUtilization": TsMetric(Kind.GAUGE, "Percent", ("Level", "DeviceId")),
    "GPUMemoryUsed": TsMetric(Kind.GAUGE, "Megabytes", ("Level", "DeviceId")),
    "GPUMemoryUtilization": TsMetric(Kind.GAUGE, "Percent", ("Level", "DeviceId")),
    "HandlerTime": TsMetric(Kind.GAUGE, "Milliseconds", ("ModelName", "Level")),
    "PredictionTime": TsMetric(Kind.GAUGE, "Milliseconds", ("ModelName", "Level")),
}


def ts_family(name: str) -> Family:
    """Return one of TorchServe's families, empty."""
    metric = METRICS[name]
    return Family(
        name, metric.kind, help_text(metric.kind, metric.unit), (*metric.labels, metric.host_label), {}, True
    )


def help_text(kind: Kind, unit: str) -> str:
    """Return what TorchServe says of a metric."""
    return f"Torchserve prometheus {kind.value} metric with unit: {unit}"


class MetricLog:
    """Writes the lines of TorchServe's ts_metrics.log and model_metrics.log into our log."""

    def write(self, name: str, value: float, labels: Sequence[str], request_id: str = "") -> None:
        """Write one value of a metric of `METRICS`; `labels` are the values of its labels, in order."""
        metric = METRICS[name]
        logger.info(
            metric_line(name, metric.unit, value, zip(metric.labels, labels, strict=True), request_id)
        )

    def write_families(self, families: Sequence[Family]) -> None:
        """Write every value of families that `ts_family` made."""
        for family in families:
            for labels, series in family.series.items():
                self.write(family.name, getattr(series, "value", 0.0), labels[:-1])


def metric_line(
    name: str, unit: str, value: float, labels: Iterator[tuple[str, str]], request_id: str = ""
) -> str:
    """Return `Name.Unit:value|#label:value,...|#hostname:host[,requestID:id],timestamp:seconds`."""
    dimensions = ",".join(f"{label}:{text}" for label, text in labels)
    request = f",requestID:{request_id}" if request_id else ""
    origin = f"hostname:{HOSTNAME}{request},timestamp:{int(time.time())}"
    return f"{name}.{unit}:{float(value)}|#{dimensions}|#{origin}"


@dataclasses.dataclass(frozen=True)
class MetricsFile:
    """Which metrics a metrics.yaml wants.

    Attributes:
        server: names of TorchServe's own.
        model: kind and name of those that handlers may report.
    """

    server: frozenset[str]
    model: frozenset[tuple[str, str]]


def read_metrics_file(path: Path) -> MetricsFile:
    """Read the sections `ts_metrics` and `model_metrics` of a metrics.yaml.

    Raises:
        MetricsFileError: it cannot be read, or is something else.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise MetricsFileError(f"metrics_config {path}: cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise MetricsFileError(f"metrics_config {path}: expected the sections ts_metrics and model_metrics")
    try:
        server = {name for _, name in _declared(document.get("ts_metrics"))}
        return MetricsFile(frozenset(server), frozenset(_declared(document.get("model_metrics"))))
    except ValueError as error:
        raise MetricsFileError(f"metrics_config {path}: {error}") from error


def _declared(section: Any) -> Iterator[tuple[str, str]]:
    """Yield kind and name of each metric of a section.

    Raises:
        ValueError: the section has another form.
    """
    kinds = {kind.value for kind in Kind}
    if section is None:
        return
    if not isinstance(section, dict) or not set(section) <= kinds:
        raise ValueError(f"a section must be made of {', '.join(sorted(kinds))}, got {section!r:.80}")
    for kind, metrics in section.items():
        if not isinstance(metrics, (list, type(None))):
            raise ValueError(f"the {kind}s must be a list, got {metrics!r:.80}")
        for metric in metrics or ():
            name = metric.get("name") if isinstance(metric, dict) else None
            if not isinstance(name, str):
                raise ValueError(f"a {kind} has no name: {metric!r:.80}")
            yield kind, name
