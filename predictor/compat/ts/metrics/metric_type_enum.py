"""The kinds of metric."""

from __future__ import annotations

import enum


class MetricTypes(enum.Enum):
    """A counter grows, a gauge is replaced, a histogram collects."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
