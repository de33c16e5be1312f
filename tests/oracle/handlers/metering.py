"""Counts and measures with every call of the metrics API, and tells what it raised."""

from ts.metrics.dimension import Dimension
from ts.metrics.metric_type_enum import MetricTypes
from ts.torch_handler.base_handler import BaseHandler


class MeteringHandler(BaseHandler):
    def initialize(self, context):
        self.at_load = context.metrics.add_metric_to_cache(
            metric_name="Loads", unit="count", dimension_names=["Host"], metric_type=MetricTypes.COUNTER
        )
        self.at_load.add_or_update(1, ["here"])
        self.initialized = True

    def handle(self, data, context):
        return [self.measure(row.get("body"), context.metrics) for row in data]

    def measure(self, what, metrics):
        try:
            return {"returned": type(getattr(self, "do_" + what)(metrics)).__name__}
        except Exception as error:
            return {"raised": type(error).__name__, "text": str(error)}

    def do_usual(self, metrics):
        metrics.add_counter("Seen", 1, None)
        metrics.add_counter("Seen", 2, 0, [Dimension("Kind", "cat")])
        metrics.add_time("Took", 12.5, None, "ms")
        metrics.add_time("TookLong", 2, 0, "s")
        metrics.add_size("Bytes", 10, None, "kB")
        metrics.add_size("More", 1, None, "GB", [Dimension("Where", "ram")])
        metrics.add_percent("Full", 99.5)
        metrics.add_error("Oops", 1)
        metrics.add_metric("Free", 3, "unit", None, [Dimension("a", "b")], MetricTypes.GAUGE)

    def do_by_name(self, metrics):
        metrics.add_counter(metric_name="Named", value=1, idx=0, dimensions=[])
        metrics.add_metric(
            metric_name="Histo",
            value=1.5,
            unit="ms",
            idx="id",
            dimensions=[],
            metric_type=MetricTypes.HISTOGRAM,
        )

    def do_cached(self, metrics):
        metric = metrics.get_metric("Loads", MetricTypes.COUNTER)
        metric.add_or_update(4, ["there"])
        return metric

    def do_predefined(self, metrics):
        metrics.get_metric("HandlerTime", MetricTypes.GAUGE).add_or_update(1.5, ["model", "Model"])

    def do_missing(self, metrics):
        metrics.get_metric("Nobody", MetricTypes.COUNTER)

    def do_wrong_type(self, metrics):
        metrics.get_metric("Loads", MetricTypes.GAUGE)

    def do_wrong_dimensions(self, metrics):
        self.at_load.add_or_update(1, ["a", "b"])

    def do_no_dimensions(self, metrics):
        self.at_load.add_or_update(1, [])

    def do_negative(self, metrics):
        self.at_load.add_or_update(-1, ["a"])

    def do_text(self, metrics):
        metrics.add_counter("Seen", "many")

    def do_error_text(self, metrics):
        metrics.add_error("Oops", "what went wrong")

    def do_bad_unit(self, metrics):
        metrics.add_time("Took", 1, None, "fortnights")

    def do_bad_size_unit(self, metrics):
        metrics.add_size("Bytes", 1, None, "parsecs")

    def do_bad_dimensions(self, metrics):
        metrics.add_counter("Seen", 1, None, ["no dimension"])

    def do_no_name(self, metrics):
        metrics.add_counter("", 1)

    def do_cache_twice(self, metrics):
        return metrics.add_metric_to_cache("Loads", "count", ["Host"], MetricTypes.COUNTER)

    def do_emit(self, metrics):
        from ts.service import emit_metrics

        metrics.add_counter("Emitted", 1)
        emit_metrics(metrics.cache if isinstance(metrics.cache, list) else [])
