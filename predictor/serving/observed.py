"""What can be told of the models at any moment: families for `/metrics`, made anew for each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from predictor.serving.model import ModelState, ServedModel
from predictor.serving.worker import WorkerState
from predictor.telemetry.families import KSERVE_SECONDS, Family, Histogram, Kind, Labels, Value, by_name
from predictor.telemetry.torchserve import HOSTNAME, METRICS, help_text, ts_family

_MODEL = ("model", "version")
# KServe's histograms, and the stage and verbs of ours that each of them sums up.
_KSERVE: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "request_preprocess_seconds": ("decode", (), "pre-process request latency"),
    "request_predict_seconds": ("inference", ("predict", "describe"), "predict request latency"),
    "request_explain_seconds": ("inference", ("explain",), "explain request latency"),
    "request_postprocess_seconds": ("encode", (), "post-process request latency"),
}
_OURS = ("predictor_", "ts_inference_", "ts_queue_", "process_", "python_", "request_")
_GAUGES = ("QueueTime", "WorkerThreadTime", "HandlerTime", "PredictionTime")

# Whether a metric of a handler is wanted: its kind and name.
Wanted = Callable[[str, str], bool]


def state_families(models: Iterable[ServedModel]) -> list[Family]:
    """Return queues, workers and states of the models."""
    queue = Family("predictor_queue_depth", Kind.GAUGE, "Requests that wait in the queue.", _MODEL)
    capacity = Family("predictor_queue_capacity", Kind.GAUGE, "Requests that may wait in the queue.", _MODEL)
    flight = Family(
        "predictor_requests_in_flight", Kind.GAUGE, "Requests that wait, or that workers hold.", _MODEL
    )
    workers = Family(
        "predictor_workers", Kind.GAUGE, "Worker processes, by what they do.", (*_MODEL, "state")
    )
    restarts = Family(
        "predictor_worker_restarts_total",
        Kind.COUNTER,
        "Workers started in the place of dead ones.",
        _MODEL,
    )
    dropped = Family(
        "predictor_handler_metrics_dropped_total",
        Kind.COUNTER,
        "Values that handlers reported under more labels than are kept.",
        _MODEL,
    )
    states = Family(
        "predictor_model_state", Kind.GAUGE, "1 for the state that the model is in.", (*_MODEL, "state")
    )
    for model in models:
        labels = (model.name, model.version)
        queue.set(model.waiting, *labels)
        capacity.set(model.policy.queue_size, *labels)
        flight.set(model.waiting + model.running, *labels)
        restarts.set(model.restarts, *labels)
        dropped.set(model.meter.dropped, *labels)
        held = [worker.state for worker in (*model.workers, *model.explanation_workers)]
        for state in WorkerState:
            if state is not WorkerState.DEAD:
                workers.set(held.count(state), *labels, state.value.lower())
        now = model.state
        for known in ModelState:
            states.set(known is now, *labels, known.value.lower())
    return [queue, capacity, flight, workers, restarts, dropped, states]


def stage_families(models: Iterable[ServedModel]) -> list[Family]:
    """Return where the time of requests goes, and the sizes of batches."""
    stages = Family(
        "predictor_stage_duration_seconds",
        Kind.HISTOGRAM,
        "Seconds that a request spent in each stage; those of a batch share its last three.",
        (*_MODEL, "verb", "stage"),
    )
    sizes = Family(
        "predictor_batch_size", Kind.HISTOGRAM, "Requests that a worker was sent together.", (*_MODEL, "verb")
    )
    for model in models:
        for verb, meter in model.meter.verbs.items():
            labels = (model.name, model.version, verb.value)
            sizes.series[labels] = meter.batch_sizes
            for stage, histogram in meter.stages.items():
                key = (*labels, stage)
                stages.series[key] = histogram
    return [stages, sizes]


def kserve_families(models: Iterable[ServedModel]) -> list[Family]:
    """Return the histograms of KServe's own server: what a model's versions spent, together."""
    families = [Family(name, Kind.HISTOGRAM, text, ("model_name",)) for name, (_, _, text) in _KSERVE.items()]
    for model in models:
        for family in families:
            stage, verbs, _ = _KSERVE[family.name]
            for verb, meter in model.meter.verbs.items():
                if not verbs or verb.value in verbs:
                    family.histogram(model.name, bounds=KSERVE_SECONDS).add(meter.stages[stage])
    return families


def torchserve_families(models: Iterable[ServedModel]) -> list[Family]:
    """Return TorchServe's gauges of workers and handlers: each tells of the last batch alone."""
    families = by_name(ts_family(name) for name in (*_GAUGES, "WorkerLoadTime"))
    # Versions of a model, and in part all models, share a series: the last batch of all of them is told.
    for model in sorted(models, key=lambda model: model.meter.last_at):
        for name, value in model.meter.last.items():
            labels = (model.name, "Model") if "ModelName" in METRICS[name].labels else ("Host",)
            families[name].set(value, *labels, HOSTNAME)
        for worker in model.workers:
            if worker.loaded is not None:
                title = f"W-{worker.number}-{model.name}_{model.version}"
                families["WorkerLoadTime"].set(worker.loaded.seconds * 1000, title, "Host", HOSTNAME)
    return list(families.values())


def handler_families(models: Iterable[ServedModel], wanted: Wanted) -> list[Family]:
    """Return what handlers report through `context.metrics`.

    Of two kinds of metric under one name the first is told, as Prometheus knows one kind for a name.
    Several versions of a model report under the same labels, and are told together.
    """
    entries = [
        (model.meter, kind, name, dict(labels), series)
        for model in models
        for (kind, name, labels), series in model.meter.reported.items()
        if not _is_ours(name) and wanted(kind.value, name)
    ]
    families: dict[str, Family] = {}
    for meter, kind, name, labels, _ in entries:
        text = help_text(kind, meter.units.get(name, "unit"))
        family = families.setdefault(name, Family(name, kind, text, ("Hostname",), {}, True))
        family.labels = tuple(dict.fromkeys((*labels, *family.labels)))
    for _, kind, name, labels, series in entries:
        family = families[name]
        if family.kind is kind:
            known = {"Hostname": HOSTNAME, **labels}
            _merge(family, tuple(known.get(label, "") for label in family.labels), series)
    return list(families.values())


def _merge(family: Family, labels: Labels, series: Value | Histogram) -> None:
    if isinstance(series, Histogram):
        family.histogram(*labels, bounds=series.bounds).add(series)
    elif family.kind is Kind.COUNTER:
        family.value(*labels).value += series.value
    else:
        family.set(series.value, *labels)


def _is_ours(name: str) -> bool:
    return name in METRICS or name.startswith(_OURS)
