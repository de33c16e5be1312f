"""The object handlers know as `context.metrics`: takes values and keeps them until the server asks."""

from __future__ import annotations

import logging
import threading
from typing import Any

from ts.metrics.caching_metric import CachingMetric
from ts.metrics.metric_cache_abstract import MetricCacheAbstract
from ts.metrics.metric_cache_errors import MetricsCacheKeyError
from ts.metrics.metric_type_enum import MetricTypes

logger = logging.getLogger(__name__)

MAX_SERIES = 10_000
"""Label combinations kept between two drains; a handler that uses a request id as a label makes no end."""

MAX_OBSERVATIONS = 10_000
"""Values a histogram keeps between two drains."""

_Key = tuple[MetricTypes, str, tuple[tuple[str, str], ...]]


class MetricsStore(MetricCacheAbstract):
    """Counters summed, gauges replaced, histogram values collected, per metric and labels, until `drain`.

    Safe to use from the threads of a handler.
    """

    def __init__(
        self, request_ids: Any = None, model_name: str | None = None, config_file_path: str | None = None
    ) -> None:
        """`request_ids` as for `set_request_ids`; `model_name` becomes the label ModelName."""
        super().__init__(config_file_path)
        self.request_ids = request_ids
        self.model_name = model_name
        self._lock = threading.Lock()
        self._series: dict[_Key, dict[str, Any]] = {}
        self._dropped = 0

    def initialize_cache(self) -> None:
        """Make the metrics that TorchServe's own metrics.yaml declares; others are made when first used."""
        for name in ("HandlerTime", "PredictionTime"):
            self.add_metric_to_cache(name, "ms", ["ModelName", "Level"], MetricTypes.GAUGE)

    def get_metric(self, metric_name: str, metric_type: MetricTypes = MetricTypes.COUNTER) -> CachingMetric:
        """Return the metric of this name and type; `MetricsCacheKeyError` when there is none."""
        self._check_type(metric_name, str, "`metric_name` must be a str")
        self._check_type(metric_type, MetricTypes, "`metric_type` must be a MetricTypes enum")
        try:
            return self.cache[metric_type][metric_name]
        except KeyError:
            reason = f"Metric of type '{metric_type}' and name '{metric_name}' doesn't exist"
            raise MetricsCacheKeyError(reason) from None

    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str,
        dimension_names: list[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """Make a metric, replacing one of the same name and type; TypeError for arguments of other types."""
        self._check_type(metric_name, str, "`metric_name` must be a str")
        self._check_type(unit, str, "`unit` must be a str")
        self._check_type(metric_type, MetricTypes, "`metric_type` must be a MetricTypes enum")
        if dimension_names:
            self._check_type(dimension_names, list, "`dimension_names` must be a list of str")
        known = self.cache.setdefault(metric_type, {})
        if metric_name in known:
            logger.warning("metric %s of type %s is defined anew", metric_name, metric_type.value)
        known[metric_name] = CachingMetric(metric_name, unit, dimension_names, metric_type, self._take)
        return known[metric_name]

    @property
    def has_news(self) -> bool:
        """Whether `drain` would return anything, or has something to complain about."""
        return bool(self._series or self._dropped)

    def drain(self) -> list[dict[str, Any]]:
        """Return what came since the last call, and forget it.

        One dict per metric and labels: `name`, `type` ("counter", "gauge", "histogram"), `unit` (spelled
        out), `dimensions` (dict of str) and `value`: the sum for a counter, the last value for a gauge,
        the list of values for a histogram.
        """
        with self._lock:
            series, self._series = self._series, {}
            dropped, self._dropped = self._dropped, 0
        if dropped:
            logger.warning("%d metric values were dropped: too many labels or values", dropped)
        return list(series.values())

    def _take(self, metric: CachingMetric, labels: dict[str, Any], value: float) -> None:
        texts = {name: str(label) for name, label in labels.items()}
        key = (metric.metric_type, metric.metric_name, tuple(texts.items()))
        with self._lock:
            entry = self._series.get(key)
            if entry is not None:
                self._merge(metric.metric_type, entry, value)
            elif len(self._series) >= MAX_SERIES:
                self._dropped += 1
            else:
                self._series[key] = {
                    "name": metric.metric_name,
                    "type": metric.metric_type.value,
                    "unit": metric.unit,
                    "dimensions": texts,
                    "value": [value] if metric.metric_type is MetricTypes.HISTOGRAM else value,
                }

    def _merge(self, kind: MetricTypes, entry: dict[str, Any], value: float) -> None:
        if kind is MetricTypes.COUNTER:
            entry["value"] += value
        elif kind is MetricTypes.GAUGE:
            entry["value"] = value
        elif len(entry["value"]) < MAX_OBSERVATIONS:
            entry["value"].append(value)
        else:
            self._dropped += 1
