"""A store whose metrics are declared in a metrics.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ts.metrics.metric_cache_errors import (
    MetricsCacheIOError,
    MetricsCacheKeyError,
    MetricsCachePyYamlError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
)
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.metrics_store import MetricsStore


class MetricsCacheYamlImpl(MetricsStore):
    """Reads the section `model_metrics`: metric type to a list of `{name, unit, dimensions}`."""

    def __init__(self, config_file_path: str) -> None:
        """Read the file; its metrics are made by `initialize_cache`."""
        super().__init__(config_file_path=config_file_path)
        if not config_file_path:
            raise MetricsCacheTypeError("Config file not initialized")
        self._parsed_file = _read(config_file_path)

    def initialize_cache(self) -> None:
        """Make the metrics of the file; a missing key or an unknown type raises `MetricsCacheKeyError`."""
        try:
            section = self._parsed_file["model_metrics"]
        except (KeyError, TypeError) as error:
            raise MetricsCacheKeyError(f"{self.config_file_path} has no section model_metrics") from error
        if not section:
            raise MetricsCacheValueError(f"{self.config_file_path}: the section model_metrics is empty")
        for kind, metrics in section.items():
            for metric in metrics:
                self._declare(kind, metric)

    def _declare(self, kind: Any, metric: dict[str, Any]) -> None:
        try:
            metric_type = MetricTypes(kind)
        except ValueError as error:
            raise MetricsCacheKeyError(f"Invalid metric type: {error}") from error
        try:
            self.add_metric_to_cache(metric["name"], metric["unit"], metric["dimensions"], metric_type)
        except KeyError as error:
            raise MetricsCacheKeyError(f"Key not found in cache spec: {error}") from error


def _read(path: str) -> Any:
    try:
        with Path(path).open(encoding="utf-8") as stream:
            return yaml.safe_load(stream)
    except yaml.YAMLError as error:
        raise MetricsCachePyYamlError(f"{path}: {error}") from error
    except OSError as error:
        raise MetricsCacheIOError(f"{path}: {error}") from error
