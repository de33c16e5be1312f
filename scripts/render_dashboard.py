"""Write the Grafana dashboard, charts/predictor/dashboards/predictor.json, from the list of panels below.

PYTHONPATH=. python scripts/render_dashboard.py
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent.parent / "charts" / "predictor" / "dashboards" / "predictor.json"
Json = dict[str, Any]

# Width of Grafana's grid.
COLUMNS = 24
_HEIGHT = 8
_STAT_HEIGHT = 4
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What every query is limited to; TorchServe's and KServe's families call the model otherwise.
_SERVER = 'job=~"$job",instance=~"$instance"'
_OURS = f'{_SERVER},model=~"$model"'
_TS = f'{_SERVER},model_name=~"$model"'
_CAMEL = f'{_SERVER},ModelName=~"$model"'
_RATE = "[$__rate_interval]"


@dataclasses.dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: what it shows.
        description: what to make of it.
        unit: Grafana's name of the unit.
        queries: PromQL expressions, each with the legend of its series.
        kind: Grafana's type of panel.
        width: columns of the grid.
        stacked: areas upon each other, for parts of a whole.
        labels: texts for values, and their colours.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    labels: Sequence[tuple[str, str, str]] = ()


def _stat(title: str, description: str, unit: str, query: str, **options: Any) -> Panel:
    return Panel(title, description, unit, ((query, ""),), kind="stat", width=4, **options)


def _quantile(share: float, name: str, labels: str, by: str = "") -> str:
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({groups}) (rate({name}_bucket{{{labels}}}{_RATE})))"


def _mean(name: str, labels: str, by: str) -> str:
    total, count = (f"sum by ({by}) (rate({name}_{part}{{{labels}}}{_RATE}))" for part in ("sum", "count"))
    return f"{total} / {count}"


_DURATION = "predictor_request_duration_seconds"
_STAGE = "predictor_stage_duration_seconds"
_VERBS = f'{_OURS},verb!=""'
_REQUESTS = f"rate(predictor_requests_total{{{_VERBS}}}{_RATE})"
_FAILED = f'rate(predictor_requests_total{{{_VERBS},status=~"5..|INTERNAL|UNAVAILABLE|UNKNOWN"}}{_RATE})'

_TS_REQUESTS = f"sum(rate(ts_inference_requests_total{{{_TS}}}{_RATE}))"

ROWS: Sequence[tuple[str, Sequence[Panel]]] = (
    (
        "At a glance",
        (
            _stat(
                "Ready",
                "Whether every model of every server answers.",
                "none",
                f"min(predictor_ready{{{_SERVER}}})",
                labels=(("0", "not ready", "red"), ("1", "ready", "green")),
            ),
            _stat("Requests", "Inferences a second.", "reqps", f"sum({_REQUESTS})"),
            _stat(
                "Failed",
                "Share of inferences that failed or were refused.",
                "percentunit",
                f"(sum({_FAILED}) or vector(0)) / sum({_REQUESTS})",
            ),
            _stat("p99", "99 of 100 inferences were faster.", "s", _quantile(0.99, _DURATION, _VERBS)),
            _stat(
                "In flight",
                "Inferences that wait or run.",
                "none",
                f"sum(predictor_requests_in_flight{{{_OURS}}})",
            ),
            _stat(
                "Workers",
                "Processes that can answer.",
                "none",
                f'sum(predictor_workers{{{_OURS},state=~"ready|busy"}})',
            ),
        ),
    ),
    (
        "Requests",
        (
            Panel(
                "Requests by protocol",
                "",
                "reqps",
                ((f"sum by (protocol, verb) ({_REQUESTS})", "{{protocol}} {{verb}}"),),
                stacked=True,
            ),
            Panel(
                "Answers by status",
                "HTTP statuses, and the names of gRPC's; 499: the client left.",
                "reqps",
                (
                    (
                        f"sum by (status) (rate(predictor_requests_total{{{_SERVER}}}{_RATE}))",
                        "{{status}}",
                    ),
                ),
                stacked=True,
            ),
            Panel(
                "Latency",
                "From a request's head to the end of its answer.",
                "s",
                tuple(
                    (_quantile(share, _DURATION, _VERBS), name)
                    for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))
                ),
            ),
        ),
    ),
    (
        "Where the time goes",
        (
            Panel(
                "Mean time by stage",
                "queue: until a worker began; batch_wait: a free worker waited for more requests.",
                "s",
                ((_mean(_STAGE, f'{_OURS},verb="predict"', "stage"), "{{stage}}"),),
                stacked=True,
            ),
            Panel(
                "p99 of the queue, by model",
                "Grows first when there are too few workers.",
                "s",
                ((_quantile(0.99, _STAGE, f'{_OURS},stage="queue"', "model"), "{{model}}"),),
            ),
            Panel(
                "Batch size",
                "Requests that a worker was sent together.",
                "none",
                ((_mean("predictor_batch_size", _OURS, "model"), "{{model}}"),),
            ),
        ),
    ),
    (
        "Queues and workers",
        (
            Panel(
                "Queue depth",
                "What an autoscaler should look at; the dashed line of a model is where 503 begins.",
                "none",
                (
                    (f"sum by (model) (predictor_queue_depth{{{_OURS}}})", "{{model}}"),
                    (f"sum by (model) (predictor_queue_capacity{{{_OURS}}})", "{{model}} capacity"),
                ),
            ),
            Panel(
                "Workers by state",
                "",
                "none",
                ((f"sum by (state) (predictor_workers{{{_OURS}}})", "{{state}}"),),
                stacked=True,
            ),
            Panel(
                "Worker restarts",
                "Processes that died and were started again.",
                "none",
                (
                    (
                        f"sum by (model) (increase(predictor_worker_restarts_total{{{_OURS}}}{_RATE}))",
                        "{{model}}",
                    ),
                ),
            ),
            Panel(
                "Models that are not ready",
                "",
                "none",
                (
                    (
                        f'sum by (model, state) (predictor_model_state{{{_OURS},state!="ready"}}) > 0',
                        "{{model}} {{state}}",
                    ),
                ),
            ),
            Panel(
                "Memory of workers",
                "",
                "bytes",
                ((f"sum by (model) (predictor_worker_memory_bytes{{{_OURS}}})", "{{model}}"),),
                stacked=True,
            ),
            Panel(
                "Memory and processor of the front end",
                "",
                "short",
                (
                    (f"process_resident_memory_bytes{{{_SERVER}}} / 1e6", "resident MB"),
                    (f"rate(process_cpu_seconds_total{{{_SERVER}}}{_RATE}) * 100", "% of a core"),
                ),
            ),
        ),
    ),
    (
        "GPUs",
        (
            Panel(
                "GPU utilization",
                "",
                "percentunit",
                ((f"predictor_gpu_utilization_ratio{{{_SERVER}}}", "{{instance}} {{gpu}} {{name}}"),),
                width=12,
            ),
            Panel(
                "GPU memory",
                "",
                "bytes",
                (
                    (f"predictor_gpu_memory_used_bytes{{{_SERVER}}}", "{{instance}} {{gpu}} used"),
                    (f"predictor_gpu_memory_total_bytes{{{_SERVER}}}", "{{instance}} {{gpu}} total"),
                ),
                width=12,
            ),
        ),
    ),
    (
        "Under TorchServe's names",
        (
            Panel(
                "Inferences",
                "ts_inference_requests_total",
                "reqps",
                (
                    (
                        _TS_REQUESTS.replace("sum(", "sum by (model_name, model_version) (", 1),
                        "{{model_name}} {{model_version}}",
                    ),
                ),
            ),
            Panel(
                "Mean latency, and time in the queue",
                "The growth of the sums over that of the count.",
                "µs",
                tuple(
                    (f"sum(rate({name}{{{_TS}}}{_RATE})) / {_TS_REQUESTS}", legend)
                    for name, legend in (
                        ("ts_inference_latency_microseconds", "inference"),
                        ("ts_queue_latency_microseconds", "queue"),
                    )
                ),
            ),
            Panel(
                "Requests by class",
                "All HTTP and gRPC requests, probes and scrapes too.",
                "reqps",
                tuple(
                    (f"sum(rate(Requests{digit}XX{{{_SERVER}}}{_RATE}))", f"{digit}XX") for digit in (2, 4, 5)
                ),
            ),
            Panel(
                "Handler and prediction time",
                "Of the last batch.",
                "ms",
                (
                    (f"HandlerTime{{{_CAMEL}}}", "handler {{ModelName}}"),
                    (f"PredictionTime{{{_CAMEL}}}", "prediction {{ModelName}}"),
                ),
            ),
            Panel(
                "Processor, memory and disk",
                "Of the whole machine or node.",
                "percent",
                (
                    (f"CPUUtilization{{{_SERVER}}}", "processor {{Hostname}}"),
                    (f"MemoryUtilization{{{_SERVER}}}", "memory {{Hostname}}"),
                    (f"DiskUtilization{{{_SERVER}}}", "disk {{Hostname}}"),
                ),
            ),
            Panel(
                "GPUs",
                "",
                "percent",
                (
                    (f"GPUUtilization{{{_SERVER}}}", "utilization {{DeviceId}}"),
                    (f"GPUMemoryUtilization{{{_SERVER}}}", "memory {{DeviceId}}"),
                ),
            ),
        ),
    ),
    (
        "Under KServe's names",
        tuple(
            Panel(
                f"{title}, p50 and p99",
                name,
                "s",
                tuple((_quantile(share, name, _TS), f"p{share * 100:.0f}") for share in (0.5, 0.99)),
                width=6,
            )
            for title, name in (
                ("Preprocessing", "request_preprocess_seconds"),
                ("Prediction", "request_predict_seconds"),
                ("Explanation", "request_explain_seconds"),
                ("Postprocessing", "request_postprocess_seconds"),
            )
        ),
    ),
)


def dashboard() -> Json:
    """Return the whole dashboard, as Grafana 10 and newer import it."""
    panels: list[Json] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
                "panels": [],
            }
        )
        top += 1
        for panel, position in _placed(row, top):
            panels.append(_panel(panel, len(panels) + 1, position))
            top = max(top, position["y"] + position["h"])
    return {
        "uid": "predictor",
        "title": "PyTorch predictor for KServe",
        "description": "Requests, latencies, queues, batches, workers and GPUs; both families of names.",
        "tags": ["predictor", "kserve", "pytorch", "torchserve"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "panels": panels,
    }


def _placed(row: Sequence[Panel], top: int) -> Iterator[tuple[Panel, Json]]:
    """Yield panels with their places: beside each other while there is room, then below."""
    left = 0
    height = _STAT_HEIGHT if all(panel.kind == "stat" for panel in row) else _HEIGHT
    for panel in row:
        if left + panel.width > COLUMNS:
            left, top = 0, top + height
        yield panel, {"h": height, "w": panel.width, "x": left, "y": top}
        left += panel.width


def _panel(panel: Panel, number: int, position: Json) -> Json:
    custom: Json = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if panel.stacked:
        custom.update(fillOpacity=40, stacking={"mode": "normal", "group": "A"})
    overrides = [
        {
            "matcher": {"id": "byRegexp", "options": ".* (capacity|total)"},
            "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}}],
        }
    ]
    mappings = [
        {"type": "value", "options": {value: {"text": text, "color": color, "index": index}}}
        for index, (value, text, color) in enumerate(panel.labels)
    ]
    stat: Json = {
        "colorMode": "value",
        "graphMode": "area",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    series: Json = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": position,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "mappings": mappings,
                "custom": custom if panel.kind == "timeseries" else {},
            },
            "overrides": overrides if panel.kind == "timeseries" else [],
        },
        "options": stat if panel.kind == "stat" else series,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend,
                "editorMode": "code",
                "range": True,
            }
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }


def _variables() -> list[Json]:
    def by_label(name: str, label: str, query: str) -> Json:
        return {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "refresh": 2,
            "sort": 1,
            "options": [],
        }

    source: Json = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {"selected": False, "text": "default", "value": "default"},
        "refresh": 1,
        "options": [],
    }
    return [
        source,
        by_label("job", "Job", "label_values(predictor_build_info, job)"),
        by_label("instance", "Server", 'label_values(predictor_build_info{job=~"$job"}, instance)'),
        by_label("model", "Model", 'label_values(predictor_queue_depth{job=~"$job"}, model)'),
    ]


def fill_in(expression: str, window: str = "30s") -> str:
    """Return a query of the dashboard with its variables as Grafana fills them in when all is chosen."""
    for name in ("job", "instance", "model"):
        expression = expression.replace(f"${name}", ".*")
    return expression.replace("$__rate_interval", window)


def main() -> None:
    """Write the file."""
    DASHBOARD.parent.mkdir(exist_ok=True)
    DASHBOARD.write_text(json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
