"""A single measured value, as old handlers build it by hand."""

from __future__ import annotations

import socket
import time
from collections import OrderedDict
from typing import Any

from ts.metrics.caching_metric import CachingMetric
from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.unit import Units

MetricUnit = Units()


class Metric:
    """A value with its unit and labels; `str()` is TorchServe's metric log line."""

    def __init__(
        self,
        name: str,
        value: float,
        unit: str,
        dimensions: list[Dimension],
        request_id: str | None = None,
        metric_method: str | None = None,
    ) -> None:
        """`unit` is one of ms, s, percent, count, MB, kB, GB, B or any other text."""
        self.name = name
        self.unit = MetricUnit.units.get(unit, unit)
        self.metric_type = MetricTypes.COUNTER
        self.metric_method = metric_method
        self.value = value
        self.dimensions = dimensions
        self.dimension_names = [dimension.name for dimension in dimensions]
        self.dimension_values = [dimension.value for dimension in dimensions]
        self.request_id = request_id
        self._caching_metric = CachingMetric(name, unit, self.dimension_names, self.metric_type)

    def update(self, value: float) -> None:
        """Log another value of this metric."""
        self._caching_metric.add_or_update(value, self.dimension_values, request_id=self.request_id)

    def reset(self) -> None:
        """Log the value 0."""
        self.update(0)

    def __str__(self) -> str:
        """Return `name.unit:value|#labels|#hostname:host,seconds[,request id]`."""
        labels = ",".join(str(dimension) for dimension in self.dimensions)
        origin = f"hostname:{socket.gethostname()},{int(time.time())}"
        line = f"{self.name}.{self.unit}:{self.value}|#{labels}|#{origin}"
        return f"{line},{self.request_id}" if self.request_id else line

    def to_dict(self) -> OrderedDict[str, Any]:
        """Return the metric with TorchServe's key names; `Dimensions` stay objects."""
        return OrderedDict(
            MetricName=self.name,
            Value=self.value,
            Unit=self.unit,
            Dimensions=self.dimensions,
            Timestamp=int(time.time()),
            HostName=socket.gethostname(),
            RequestId=self.request_id,
        )
