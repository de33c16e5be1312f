"""What the answers of one model version's workers are measured by."""

from __future__ import annotations

import re
import time

from predictor.ipc.messages import Measured, Results, Timing, Verb
from predictor.serving.batch import SentBatch
from predictor.serving.job import Job
from predictor.telemetry.families import SIZES, Histogram, Kind, Value
from predictor.telemetry.torchserve import MetricLog

STAGES = ("queue", "batch_wait", "decode", "inference", "encode")
# Series that the handlers of one model may make; a request's id as a label would make no end of them.
MAX_REPORTED = 1000
_NOT_A_NAME = re.compile(r"[^a-zA-Z0-9_]")

# Kind, name and labels of a metric that a handler reports.
Reported = tuple[Kind, str, tuple[tuple[str, str], ...]]


class VerbMeter:
    """The measures of one kind of request.

    Attributes:
        stages: seconds that a request spent in each of `STAGES`.
        batch_sizes: requests of each batch.
    """

    __slots__ = ("batch_sizes", "stages")

    def __init__(self) -> None:
        """Start empty."""
        self.stages = {stage: Histogram() for stage in STAGES}
        self.batch_sizes = Histogram(SIZES)

    def waited(self, job: Job, batch: SentBatch, started: float) -> float:
        """Measure how long a request waited for a worker and for its batch; returns the sum, in seconds.

        It waits for its batch while a worker is free; `started` is when that one began with the batch.
        """
        filling = batch.filling_since
        filled = max(0.0, batch.taken_at - max(job.submitted, filling)) if filling else 0.0
        queued = max(0.0, started - job.submitted - filled)
        self.stages["queue"].observe(queued)
        self.stages["batch_wait"].observe(filled)
        if job.record is not None:
            job.record.queued = queued + filled
        return queued + filled

    def worked(self, timing: Timing, answered: int, size: int) -> None:
        """Measure a batch of `size` requests, of which `answered` were answered: each took all its time."""
        self.stages["decode"].observe(timing.decode, answered)
        self.stages["inference"].observe(timing.inference, answered)
        self.stages["encode"].observe(timing.encode, answered)
        self.batch_sizes.observe(size)


class ModelMeter:
    """Measures of one model version.

    Attributes:
        verbs: by kind of request.
        reported: what handlers report through `context.metrics`.
        dropped: values of theirs that were one series too many.
        units: of what they report, by name.
        last_at: when that was, by `time.monotonic`.
    """

    def __init__(self, name: str, log: MetricLog | None = None) -> None:
        """Measure model `name`, and write TorchServe's lines to `log` if there is one."""
        self.verbs: dict[Verb, VerbMeter] = {}
        self.reported: dict[Reported, Value | Histogram] = {}
        self.units: dict[str, str] = {}
        self.dropped = 0
        self._last: tuple[float, float, Timing] | None = None
        self.last_at = 0.0
        self._name = name
        self._log = log

    @property
    def last(self) -> dict[str, float]:
        """TorchServe's gauges, in milliseconds, of the last batch; empty before it."""
        if self._last is None:
            return {}
        waited, taken, timing = self._last
        worked = timing.decode + timing.inference + timing.encode
        return {
            "QueueTime": waited * 1000,
            "WorkerThreadTime": max(0.0, taken - worked) * 1000,
            "HandlerTime": timing.inference * 1000,
            "PredictionTime": worked * 1000,
        }

    def go_on_from(self, replaced: ModelMeter) -> None:
        """Count where the model that this one's replaces has stopped; both may go on for a while."""
        self.verbs, self.reported, self.units = replaced.verbs, replaced.reported, replaced.units

    def answered(self, batch: SentBatch, message: Results) -> None:
        """Take the measures of one batch: what was sent, and what came back just now."""
        for measured in message.measured:
            self._report(measured)
        timing = message.timing
        jobs = [job for job, result in zip(batch.jobs, message.results, strict=True) if result is not None]
        if timing is None or not jobs:
            return
        verb = jobs[0].request.verb
        meter = self.verbs.get(verb) or self.verbs.setdefault(verb, VerbMeter())
        waited = sum(meter.waited(job, batch, timing.started) for job in jobs)
        meter.worked(timing, len(jobs), len(batch.jobs))
        self.last_at = time.monotonic()
        self._last = waited / len(jobs), self.last_at - batch.taken_at, timing
        if self._log is not None:
            self._write(self._log, [job.request.request_id for job in jobs])

    def _write(self, log: MetricLog, request_ids: list[str]) -> None:
        """Log what TorchServe logs for a batch; handlers log their own values in the worker."""
        ids = ",".join(request_ids)
        log.write("QueueTime", self.last["QueueTime"], ("Host",))
        log.write("WorkerThreadTime", self.last["WorkerThreadTime"], ("Host",))
        log.write("PredictionTime", self.last["PredictionTime"], (self._name, "Model"), ids)

    def _report(self, measured: Measured) -> None:
        """Take what a handler has reported since the last batch."""
        kind = Kind(measured.kind)
        labels = tuple((_label(label), text) for label, text in measured.labels)
        key = (kind, _name(measured.name), labels)
        series = self.reported.get(key)
        if series is None:
            if len(self.reported) >= MAX_REPORTED:
                self.dropped += 1
                return
            series = self.reported[key] = Histogram() if kind is Kind.HISTOGRAM else Value()
            self.units[key[1]] = measured.unit
        if isinstance(series, Histogram):
            for value in measured.values:
                series.observe(value)
        elif kind is Kind.COUNTER:
            series.value += sum(measured.values)
        else:
            series.value = measured.values[-1]


def _name(text: str) -> str:
    """Make a name that Prometheus takes of what a handler calls its metric or label."""
    name = _NOT_A_NAME.sub("_", text)
    return f"_{name}" if not name or name[0].isdigit() else name


def _label(text: str) -> str:
    """Make a label's name likewise; those that Prometheus uses itself get another one, as it does."""
    name = _name(text)
    return f"exported_{name}" if name in ("le", "quantile") or name.startswith("__") else name
