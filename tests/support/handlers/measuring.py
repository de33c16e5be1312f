"""A handler that measures itself through `context.metrics`, as the body of the request asks."""

from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes


def handle(data, context):
    if data is None:
        return []
    metrics = context.metrics
    for position, row in enumerate(data):
        order = row.get("body") or row.get("data")
        order = order if isinstance(order, dict) else {}
        metrics.add_counter("SeenRows", 2, position)
        metrics.add_time("OwnTime", 12.5, position)
        metrics.add_size("OwnSize", 3, position, "MB", [Dimension("Part", order.get("part", "none"))])
        metrics.add_percent("OwnShare", 50)
        metrics.add_error("OwnErrors", 1)
        metrics.add_metric("Lengths", 0.3, "s", position, None, MetricTypes.HISTOGRAM)
        if "name" in order:
            metrics.add_counter(order["name"], 1)
        if order.get("odd"):
            metrics.add_counter("Odd", _Odd())
    return ["measured"] * len(data)


class _Odd:
    """Compares with numbers, and is none."""

    def __lt__(self, other):
        return False
