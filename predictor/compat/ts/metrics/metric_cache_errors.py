"""What the metrics interface raises; each is also the built-in error of its kind."""

from __future__ import annotations

import yaml


class GeneralMetricsCacheError(Exception):
    """Anything without a kind of its own."""

    def __init__(self, message: object) -> None:
        """Say what went wrong."""
        super().__init__(f"Generic error: {message}")


class MetricsCacheIOError(IOError):
    """A metrics file cannot be read."""

    def __init__(self, message: object) -> None:
        """Say what went wrong."""
        super().__init__(f"Error reading file: {message}")


class MetricsCachePyYamlError(yaml.YAMLError):
    """A metrics file is not YAML."""

    def __init__(self, message: object) -> None:
        """Say what went wrong."""
        super().__init__(f"Error parsing file: {message}")


class MetricsCacheTypeError(TypeError):
    """An argument has the wrong type."""


class MetricsCacheValueError(ValueError):
    """An argument has the right type and a wrong value."""


class MetricsCacheKeyError(KeyError):
    """There is no such metric, or a metrics file lacks a key."""
