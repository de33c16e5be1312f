"""Prometheus's text format, version 0.0.4, which is the one that TorchServe speaks.

prometheus_client writes the families of this process (`process_*`, `python_*`); it cannot write
TorchServe's, whose counters do not end in `_total` and whose lists of labels end in a comma.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from predictor.telemetry.families import Family, Histogram, Labels

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(families: Iterable[Family], names: Collection[str] = ()) -> str:
    """Write families as text.

    Args:
        families: those without a series are left out.
        names: of families or of samples (`x_seconds_count`); nothing else is written. Empty for all.
    """
    return "".join(line for family in families if family.series for line in _family(family, names))


def _family(family: Family, names: Collection[str]) -> Iterator[str]:
    samples = list(_samples(family))
    if names and family.name not in names:
        samples = [(name, text) for name, text in samples if name in names]
    if not samples:
        return
    yield f"# HELP {family.name} {_escape_help(family.help)}\n# TYPE {family.name} {family.kind.value}\n"
    for name, text in samples:
        yield f"{name}{text}\n"


def _samples(family: Family) -> Iterator[tuple[str, str]]:
    """Yield the name of each sample, and what follows it."""
    end = "," if family.torchserve and family.labels else ""
    for values, series in family.series.items():
        pairs = _pairs(family, values)
        if isinstance(series, Histogram):
            yield from _histogram(family.name, pairs, series)
        else:
            labels = f"{{{pairs}{end}}}" if pairs else ""
            yield family.name, f"{labels} {_number(series.value)}"


def _histogram(name: str, pairs: str, series: Histogram) -> Iterator[tuple[str, str]]:
    before = f"{pairs}," if pairs else ""
    total = 0
    for bound, count in zip((*series.bounds, float("inf")), series.counts, strict=True):
        total += count
        yield f"{name}_bucket", f'{{{before}le="{_number(bound)}"}} {total}.0'
    labels = f"{{{pairs}}}" if pairs else ""
    yield f"{name}_count", f"{labels} {total}.0"
    yield f"{name}_sum", f"{labels} {_number(series.sum)}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))


def _pairs(family: Family, values: Labels) -> str:
    # To Prometheus an empty label is no label; the metrics of handlers may differ in which they have.
    return ",".join(
        f'{name}="{_escape(value)}"'
        for name, value in zip(family.labels, values, strict=True)
        if value or not family.torchserve
    )


def _escape(text: str) -> str:
    if text.isalnum():
        return text
    # A lone surrogate, which a path may hold, cannot be sent as UTF-8.
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
