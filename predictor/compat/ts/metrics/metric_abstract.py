"""What every metric has."""

from __future__ import annotations

import abc

from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.unit import Units


class MetricAbstract(abc.ABC):
    """Name, unit (spelled out), label names and type of a metric."""

    def __init__(
        self,
        metric_name: str,
        unit: str,
        dimension_names: list[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> None:
        """`unit` is one of `Units.units`, which is then spelled out, or any other text."""
        self.metric_name = metric_name
        self.unit = Units().units.get(unit, unit)
        self.dimension_names = dimension_names or []
        self.metric_type = metric_type

    @abc.abstractmethod
    def add_or_update(self, value: float, dimension_values: list[str], request_id: str = "") -> None:
        """Add `value` (counter) or record it (gauge, histogram) for these label values."""
