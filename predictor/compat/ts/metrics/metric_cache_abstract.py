"""The interface behind `context.metrics`, without a decision on where values go."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from ts.metrics.caching_metric import CachingMetric
from ts.metrics.dimension import Dimension
from ts.metrics.metric_cache_errors import MetricsCacheKeyError, MetricsCacheTypeError, MetricsCacheValueError
from ts.metrics.metric_type_enum import MetricTypes

TIME_UNITS = ("ms", "s")
SIZE_UNITS = ("MB", "kB", "GB", "B")


class MetricCacheAbstract(abc.ABC):
    """The `add_*` methods; a subclass finds and makes the metrics.

    `idx` is the position of a request in the batch; the metric is then logged with its id alone, without
    it with the ids of the whole batch. Lists of dimensions are never changed. A metric gets the labels
    `ModelName` and `Level` unless the caller names them.
    """

    def __init__(self, config_file_path: str | None = None) -> None:
        """`config_file_path` is the metrics.yaml a subclass may read."""
        self.cache: dict[MetricTypes, dict[str, CachingMetric]] = {}
        self.store: list[Any] = []
        self.request_ids: Any = None
        self.model_name: str | None = None
        self.config_file_path = config_file_path

    def set_request_ids(self, request_ids: Any) -> None:
        """Set the ids of the running batch: a dict of index to id, or one id for all."""
        self.request_ids = request_ids

    def add_metric(
        self,
        name: str,
        value: float,
        unit: str,
        idx: Any = None,
        dimensions: Sequence[Dimension] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> None:
        """Record a metric of any unit and type."""
        self._record(name, value, unit, metric_type, self._get_req(idx), dimensions)

    def add_counter(
        self, name: str, value: float, idx: Any = None, dimensions: Sequence[Dimension] | None = None
    ) -> None:
        """Add `value` to a counter."""
        self._record(name, value, "count", MetricTypes.COUNTER, self._get_req(idx), dimensions)

    def add_time(
        self,
        name: str,
        value: float,
        idx: Any = None,
        unit: str = "ms",
        dimensions: Sequence[Dimension] | None = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Record a duration in `unit` "ms" or "s"; ValueError for another unit."""
        if unit not in TIME_UNITS:
            raise MetricsCacheValueError(f"the unit of a time must be one of {', '.join(TIME_UNITS)}")
        self._record(name, value, unit, metric_type, self._get_req(idx), dimensions)

    def add_size(
        self,
        name: str,
        value: float,
        idx: Any = None,
        unit: str = "MB",
        dimensions: Sequence[Dimension] | None = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Record a size in `unit` "MB", "kB", "GB" or "B"; ValueError for another unit."""
        if unit not in SIZE_UNITS:
            raise MetricsCacheValueError(f"the unit of a size must be one of {', '.join(SIZE_UNITS)}")
        self._record(name, value, unit, metric_type, self._get_req(idx), dimensions)

    def add_percent(
        self,
        name: str,
        value: float,
        idx: Any = None,
        dimensions: Sequence[Dimension] | None = None,
        metric_type: MetricTypes = MetricTypes.GAUGE,
    ) -> None:
        """Record a percentage, 0 to 100."""
        self._record(name, value, "percent", metric_type, self._get_req(idx), dimensions)

    def add_error(self, name: str, value: float, dimensions: Sequence[Dimension] | None = None) -> None:
        """Add `value` (a number) to an error counter."""
        self._record(name, value, "", MetricTypes.COUNTER, None, dimensions)

    def cache_keys(self) -> list[str]:
        """Return `type:name` of every metric."""
        return [f"{kind.value}:{name}" for kind, metrics in self.cache.items() for name in metrics]

    @abc.abstractmethod
    def initialize_cache(self) -> None:
        """Make the metrics the configuration names."""

    @abc.abstractmethod
    def get_metric(self, metric_name: str, metric_type: MetricTypes = MetricTypes.COUNTER) -> CachingMetric:
        """Return a known metric; `MetricsCacheKeyError` otherwise."""

    @abc.abstractmethod
    def add_metric_to_cache(
        self,
        metric_name: str,
        unit: str,
        dimension_names: list[str] | None = None,
        metric_type: MetricTypes = MetricTypes.COUNTER,
    ) -> CachingMetric:
        """Make a metric, replacing one of the same name and type, and return it."""

    def _record(
        self,
        name: str,
        value: float,
        unit: str,
        kind: MetricTypes,
        request_id: Any,
        dimensions: Sequence[Dimension] | None,
    ) -> None:
        labels = self._add_default_dims(request_id, list(dimensions or ()))
        try:
            metric = self.get_metric(name, kind)
        except MetricsCacheKeyError:
            metric = self.add_metric_to_cache(name, unit, [label.name for label in labels], kind)
        metric.add_or_update(value, [label.value for label in labels], request_id)

    def _add_default_dims(self, request_id: Any, dimensions: list[Dimension]) -> list[Dimension]:
        known = {dimension.name for dimension in dimensions}
        # As in TorchServe a value outside any request is an error's; it has no model label.
        defaults = (
            {"Level": "Error"} if request_id is None else {"ModelName": self.model_name, "Level": "Model"}
        )
        return dimensions + [Dimension(name, value) for name, value in defaults.items() if name not in known]

    def _get_req(self, idx: Any) -> Any:
        if not isinstance(self.request_ids, dict):
            return self.request_ids
        if idx is not None and idx in self.request_ids:
            return self.request_ids[idx]
        return ",".join(self.request_ids.values())

    @staticmethod
    def _check_type(variable: object, expected_type: type, helper_text: str) -> None:
        if not isinstance(variable, expected_type):
            raise MetricsCacheTypeError(helper_text)
