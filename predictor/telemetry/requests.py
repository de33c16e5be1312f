"""Counts of requests: by protocol, model and status, and under TorchServe's names."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

from predictor.telemetry.families import SECONDS, Family, Histogram, Kind, Labels, Value
from predictor.telemetry.record import RequestRecord
from predictor.telemetry.torchserve import HOSTNAME, MetricLog, ts_family

# Seconds for which the series of a model that is gone are still told, so that no scrape misses its end.
_RETIRED_SECONDS = 300.0
_INFERENCES = ("predict", "explain")
_CLASSES = {2: "Requests2XX", 4: "Requests4XX", 5: "Requests5XX"}


class RequestMeter:
    """Counts every request once, when its answer is complete or its client has gone."""

    def __init__(self, log: MetricLog | None = None) -> None:
        """Write TorchServe's lines to `log`, if there is one."""
        self._log = log
        self._requests = Family(
            "predictor_requests_total",
            Kind.COUNTER,
            "Requests, by what answered them and how; model is empty where none was reached.",
            ("protocol", "model", "version", "verb", "status"),
        )
        self._seconds = Family(
            "predictor_request_duration_seconds",
            Kind.HISTOGRAM,
            "Seconds from a request's head to the end of its answer.",
            ("protocol", "model", "version", "verb"),
        )
        self._inferences = ts_family("ts_inference_requests_total")
        self._latency = ts_family("ts_inference_latency_microseconds")
        self._queue = ts_family("ts_queue_latency_microseconds")
        self._classes = {number: ts_family(name) for number, name in _CLASSES.items()}
        for family in self._classes.values():
            family.value("Host", HOSTNAME)
        self._by_class = {number: family.value("Host", HOSTNAME) for number, family in self._classes.items()}
        # What a request changes, by everything that its labels tell.
        self._series: dict[Labels, tuple[Value, Histogram]] = {}
        self._totals: dict[tuple[str, str, str], tuple[Value, Value, Value]] = {}
        self._gone: dict[str, float] = {}

    def finished(self, record: RequestRecord, status: str, http_status: int) -> None:
        """Count a request.

        Args:
            record: what is known of it.
            status: the label: an HTTP status, or the name of a gRPC one.
            http_status: the same, or the nearest to it, in HTTP's terms.
        """
        seconds = time.monotonic() - record.started
        key = (record.protocol, record.model, record.version, record.verb, status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = (
                self._requests.value(*key),
                self._seconds.histogram(*key[:-1], bounds=SECONDS),
            )
        series[0].value += 1
        series[1].observe(seconds)
        total = self._by_class.get(http_status // 100)
        if total is not None:
            total.value += 1
        if record.verb in _INFERENCES:
            self._count_inference(record, seconds)
        if self._log is not None:
            self._write(record, seconds, http_status)

    def torchserve_families(self, *, inferences_only: bool = False) -> list[Family]:
        """Return those with TorchServe's names; those of inferences alone in its legacy mode."""
        inferences = [self._inferences, self._latency, self._queue]
        return inferences if inferences_only else [*inferences, *self._classes.values()]

    def families(self) -> list[Family]:
        """Return those with our names."""
        return [self._requests, self._seconds]

    def forget(self, known: Collection[str]) -> None:
        """Drop the series of models that have been gone for a while; `known` are the names that exist."""
        now = time.monotonic()
        names = {key[1] for key in self._series} - {"", *known}
        self._gone = {name: self._gone.get(name, now) for name in names}
        for name, since in list(self._gone.items()):
            if now - since > _RETIRED_SECONDS:
                self._drop(name)

    def _drop(self, model: str) -> None:
        del self._gone[model]
        for key in [key for key in self._series if key[1] == model]:
            del self._series[key]
            self._requests.series.pop(key, None)
            self._seconds.series.pop(key[:-1], None)
        for inference in [key for key in self._totals if key[0] == model]:
            del self._totals[inference]
            for family in (self._inferences, self._latency, self._queue):
                family.series.pop(inference, None)

    def _count_inference(self, record: RequestRecord, seconds: float) -> None:
        key = (record.model, record.asked_version, HOSTNAME)
        totals = self._totals.get(key)
        if totals is None:
            totals = self._totals[key] = (
                self._inferences.value(*key),
                self._latency.value(*key),
                self._queue.value(*key),
            )
        totals[0].value += 1
        totals[1].value += seconds * 1e6
        totals[2].value += record.queued * 1e6

    def _write(self, record: RequestRecord, seconds: float, http_status: int) -> None:
        """Log the lines that TorchServe logs for a request."""
        for name, values, value in self._lines(record, seconds, http_status):
            if self._log is not None:
                self._log.write(name, value, values)

    def _lines(
        self, record: RequestRecord, seconds: float, http_status: int
    ) -> Iterator[tuple[str, Labels, float]]:
        name = _CLASSES.get(http_status // 100)
        if name is not None:
            yield name, ("Host",), 1
        if record.verb in _INFERENCES:
            labels = (record.model, record.asked_version)
            yield "ts_inference_requests_total", labels, 1
            yield "ts_inference_latency_microseconds", labels, seconds * 1e6
            yield "ts_queue_latency_microseconds", labels, record.queued * 1e6
