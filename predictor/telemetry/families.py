"""Counters, gauges and histograms that cost a fraction of a microsecond to change.

They are changed by one thread, the event loop's, so they need no lock; prometheus_client's take one and
cost four to six times as much, a dozen of them in every request. They are written out by
`predictor.telemetry.exposition`.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

Labels = tuple[str, ...]

# The buckets of KServe's histograms, which are prometheus_client's defaults.
KSERVE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# From a no-op handler to an explanation. Holds KServe's bounds, so that its histograms are sums of ours.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, *KSERVE_SECONDS, 30.0, 120.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)


class Kind(enum.Enum):
    """What Prometheus does with a family."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Value:
    """The number of one counter or gauge."""

    __slots__ = ("value",)

    def __init__(self, value: float = 0.0) -> None:
        """Start at `value`."""
        self.value = value


class Histogram:
    """Observations in buckets.

    Attributes:
        bounds: upper bounds, ascending, without the last one, which is infinite.
        counts: observations of each bucket alone, one more than there are bounds.
        sum: of all observations.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        """Start empty."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value`, as if it had been observed `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def add(self, other: Histogram) -> None:
        """Count what `other` has counted; this one's bounds must be among its."""
        upper = [*other.bounds, math.inf]
        for bound, count in zip(upper, other.counts, strict=True):
            self.counts[bisect_left(self.bounds, bound)] += count
        self.sum += other.sum


@dataclasses.dataclass
class Family:
    """All series of one name.

    Attributes:
        name: as it is written, `_total` included.
        kind: see `Kind`.
        help: one sentence.
        labels: names of the labels.
        series: what is written, by the values of the labels.
        torchserve: written as TorchServe writes, with a comma after the last label.
    """

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    series: dict[Labels, Value | Histogram] = dataclasses.field(default_factory=dict)
    torchserve: bool = False

    def value(self, *labels: str) -> Value:
        """Return the series of these label values, made at 0 if it is new."""
        found = self.series.get(labels)
        if not isinstance(found, Value):
            found = self.series[labels] = Value()
        return found

    def histogram(self, *labels: str, bounds: Sequence[float] = SECONDS) -> Histogram:
        """Return the series of these label values, made empty if it is new."""
        found = self.series.get(labels)
        if not isinstance(found, Histogram):
            found = self.series[labels] = Histogram(bounds)
        return found

    def set(self, value: float, *labels: str) -> None:
        """Replace the value of one series."""
        self.series[labels] = Value(value)


def quantile(bounds: Sequence[float], counts: Sequence[float], share: float) -> float:
    """Estimate a quantile as Prometheus does: linearly within its bucket; NaN without observations.

    Args:
        bounds: upper bounds of all buckets but the infinite one.
        counts: observations of each bucket alone.
        share: 0.99 for the 99th percentile.
    """
    rank = share * sum(counts)
    if rank <= 0:
        return math.nan
    seen = 0.0
    lower = 0.0
    for upper, count in zip(bounds, counts, strict=False):
        if seen + count >= rank:
            return lower + (upper - lower) * (rank - seen) / count
        seen, lower = seen + count, upper
    return lower


def by_name(families: Iterable[Family]) -> dict[str, Family]:
    """Return families by their names."""
    return {family.name: family for family in families}
