"""A metric that hands its values to a store and writes TorchServe's log line for each."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from ts.metrics.dimension import Dimension
from ts.metrics.metric_abstract import MetricAbstract
from ts.metrics.metric_type_enum import MetricTypes

logger = logging.getLogger(__name__)
# The server switches it on when it is told to log metrics (metrics_mode).
values_logger = logging.getLogger(f"{__name__}.values")

Sink = Callable[["CachingMetric", dict[str, Any], float], None]


class CachingMetric(MetricAbstract):
    """One metric with fixed label names; `get_metric` and `add_metric_to_cache` return these."""

    def __init__(
        self,
        metric_name: str,
        unit: str,
        dimension_names: list[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
        sink: Sink | None = None,
    ) -> None:
        """`sink(metric, labels, value)` gets every valid value; without one values are only logged."""
        super().__init__(metric_name, unit, dimension_names, metric_type)
        self._sink = sink

    def add_or_update(
        self, value: float, dimension_values: Sequence[Any] = (), request_id: str | None = ""
    ) -> None:
        """Record `value`; a negative counter or a wrong number of labels is logged and dropped.

        A value that is no number raises TypeError into the handler.
        """
        try:
            labels = self._labels(dimension_values)
            self._check(value)
        except ValueError as error:
            logger.error("[METRICS]Failed to update metric %s with %r: %s", self.metric_name, value, error)
            return
        if self._sink is not None:
            self._sink(self, labels, value)
        if values_logger.isEnabledFor(logging.INFO):
            self._log(value, labels, request_id)

    def update(self, value: float, request_id: str | None = "", dimensions: Sequence[Dimension] = ()) -> None:
        """Record `value` for other labels than the metric was made with; kept for old handlers."""
        self.dimension_names = [dimension.name for dimension in dimensions]
        self.add_or_update(value, [dimension.value for dimension in dimensions], request_id)

    def _labels(self, values: Sequence[Any] | None) -> dict[str, Any]:
        if values is None or len(values) != len(self.dimension_names):
            raise ValueError(f"label values {values!r} do not match label names {self.dimension_names}")
        return dict(zip(self.dimension_names, values, strict=False))

    def _check(self, value: float) -> None:
        # The comparison is made for every type, so that a value that is no number raises here.
        if value < 0 and self.metric_type is MetricTypes.COUNTER:
            raise ValueError("a counter cannot be decreased")

    def _log(self, value: float, labels: dict[str, Any], request_id: str | None) -> None:
        dimensions = ",".join(f"{name}:{label}" for name, label in labels.items())
        values_logger.info(
            "%s.%s:%s|#%s|#hostname:%s%s,timestamp:%d",
            self.metric_name,
            self.unit,
            value,
            dimensions,
            socket.gethostname(),
            f",requestID:{request_id}" if request_id else "",
            time.time(),
        )
