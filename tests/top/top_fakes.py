"""What a server says, without a server."""

from __future__ import annotations

from predictor.telemetry.exposition import render
from predictor.telemetry.families import SIZES, Family, Kind

MODEL = ("model", "version")


def page(
    requests: int = 0,
    errors: int = 0,
    seconds: float = 0.004,
    models: tuple[str, ...] = ("digits",),
    gpu: float | None = None,
    state: str = "ready",
) -> str:
    """Return the text of `/metrics` after so many requests, each of which took `seconds`."""
    build = Family("predictor_build_info", Kind.GAUGE, "h", ("version",))
    build.set(1, "9.9")
    ready = Family("predictor_ready", Kind.GAUGE, "h")
    ready.set(state == "ready")
    cpu = Family("CPUUtilization", Kind.GAUGE, "h", ("Level",), {}, True)
    cpu.set(42, "Host")
    total = Family("predictor_requests_total", Kind.COUNTER, "h", ("protocol", *MODEL, "verb", "status"))
    duration = Family("predictor_request_duration_seconds", Kind.HISTOGRAM, "h", ("protocol", *MODEL, "verb"))
    states = Family("predictor_model_state", Kind.GAUGE, "h", (*MODEL, "state"))
    workers = Family("predictor_workers", Kind.GAUGE, "h", (*MODEL, "state"))
    restarts = Family("predictor_worker_restarts_total", Kind.COUNTER, "h", MODEL)
    depth = Family("predictor_queue_depth", Kind.GAUGE, "h", MODEL)
    capacity = Family("predictor_queue_capacity", Kind.GAUGE, "h", MODEL)
    flight = Family("predictor_requests_in_flight", Kind.GAUGE, "h", MODEL)
    memory = Family("predictor_worker_memory_bytes", Kind.GAUGE, "h", (*MODEL, "worker"))
    batches = Family("predictor_batch_size", Kind.HISTOGRAM, "h", (*MODEL, "verb"))
    stages = Family("predictor_stage_duration_seconds", Kind.HISTOGRAM, "h", (*MODEL, "verb", "stage"))
    for name in models:
        labels = (name, "1.0")
        total.set(requests, "v1", *labels, "predict", "200")
        total.set(errors, "v1", *labels, "predict", "503")
        total.set(1000, "health", *labels, "", "200")
        duration.histogram("v1", *labels, "predict").observe(seconds, requests + errors)
        for known in ("ready", "failed"):
            states.set(known == state, *labels, known)
        workers.set(1, *labels, "busy")
        workers.set(2, *labels, "ready")
        restarts.set(1, *labels)
        depth.set(50, *labels)
        capacity.set(100, *labels)
        flight.set(52, *labels)
        memory.set(200 << 20, *labels, "0")
        memory.set(100 << 20, *labels, "1")
        batches.histogram(*labels, "predict", bounds=SIZES).observe(4, requests)
        for stage, share in (("queue", 0.25), ("inference", 0.75)):
            stages.histogram(*labels, "predict", stage).observe(seconds * share, requests)
    families = [build, ready, cpu, total, duration, states, workers, restarts, depth, capacity, flight]
    families += [memory, batches, stages]
    if gpu is not None:
        families += _gpu(gpu)
    return render(families)


def _gpu(utilization: float) -> list[Family]:
    labels = ("gpu", "name")
    families = []
    for name, value in (
        ("utilization_ratio", utilization),
        ("memory_used_bytes", float(8 << 30)),
        ("memory_total_bytes", float(80 << 30)),
    ):
        family = Family(f"predictor_gpu_{name}", Kind.GAUGE, "h", labels)
        family.set(value, "0", "NVIDIA H100")
        families.append(family)
    return families


class FakeClient:
    """Answers with the pages that it is given, one after the other; an exception is raised instead."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def metrics(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def index(self):
        return [{"name": "digits", "version": "1.0", "state": "READY"}]
