"""Everything that `/metrics` tells, put together: TorchServe's families, KServe's, ours, the process's."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import platform
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

import psutil  # type: ignore[import-untyped, unused-ignore]
from prometheus_client import REGISTRY, generate_latest

from predictor import __version__
from predictor.serving.model import ServedModel
from predictor.serving.observed import (
    handler_families,
    kserve_families,
    stage_families,
    state_families,
    torchserve_families,
)
from predictor.serving.registry import Registry
from predictor.serving.worker import WorkerProcess
from predictor.settings import Settings
from predictor.telemetry.exposition import render
from predictor.telemetry.families import Family, Kind
from predictor.telemetry.gpu import open_gpus
from predictor.telemetry.requests import RequestMeter
from predictor.telemetry.system import SystemMetrics
from predictor.telemetry.torchserve import METRICS, MetricLog, MetricsFile, read_metrics_file

logger = logging.getLogger(__name__)


class Metrics:
    """The metrics of one server.

    Attributes:
        requests: counts every request; the listeners tell it.
    """

    def __init__(self, settings: Settings, registry: Registry) -> None:
        """Prepare to measure the server of `registry`.

        Raises:
            MetricsFileError: `metrics_config` cannot be used.
        """
        self._registry = registry
        self._mode = settings.metrics_mode
        self._file = read_metrics_file(settings.metrics_config) if settings.metrics_config else None
        self._takes_all = self._file is None or settings.model_metrics_auto_detect
        self._log = MetricLog() if self._mode != "prometheus" else None
        self.requests = RequestMeter(self._log)
        self._system = SystemMetrics(open_gpus()) if settings.system_metrics else None
        self._interval = settings.system_metrics_interval
        self._build = _build_info()
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "metrics")

    def start(self) -> None:
        """Look at the machine from now on, every `system_metrics_interval` seconds."""
        if self._system is not None:
            self._task = asyncio.get_running_loop().create_task(self._watch(self._system))

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False)

    def text(self, names: Collection[str] = ()) -> bytes:
        """Return all families, or those that `names` tells, in Prometheus's text format."""
        self.requests.forget(self._registry.names())
        process = REGISTRY.restricted_registry(names) if names else REGISTRY
        return render(self._families(), names).encode() + generate_latest(process)

    def _families(self) -> Iterable[Family]:
        models = self._registry.models()
        yield from self._torchserve()
        yield from kserve_families(models)
        yield from self.requests.families()
        yield from stage_families(models)
        yield from state_families(models)
        yield self._worker_memory()
        if self._system is not None:
            yield from self._system.families()
        yield self._ready()
        yield self._build

    def _torchserve(self) -> list[Family]:
        """Return the families with TorchServe's names that its `metrics_mode` and metrics.yaml show."""
        families = self.requests.torchserve_families(inferences_only=self._mode == "legacy")
        if self._mode == "log":
            return []
        if self._mode == "prometheus":
            models = self._registry.models()
            families += torchserve_families(models)
            families += self._system.torchserve_families() if self._system is not None else []
            families += handler_families(models, self._is_wanted)
        file = self._file
        return [family for family in families if file is None or _is_listed(file, family)]

    def _is_wanted(self, kind: str, name: str) -> bool:
        return self._takes_all or (self._file is not None and (kind, name) in self._file.model)

    def _ready(self) -> Family:
        family = Family(
            "predictor_ready", Kind.GAUGE, "1 while every model answers, as /v2/health/ready says."
        )
        family.set(self._registry.ready)
        return family

    def _worker_memory(self) -> Family:
        family = Family(
            "predictor_worker_memory_bytes",
            Kind.GAUGE,
            "Resident memory of a worker process.",
            ("model", "version", "worker"),
        )
        for model in self._registry.models():
            for worker in [*model.workers, *model.explanation_workers]:
                with contextlib.suppress(psutil.Error):
                    if worker.pid:
                        size = psutil.Process(worker.pid).memory_info().rss
                        family.set(size, model.name, model.version, _worker_label(model, worker))
        return family

    async def _watch(self, system: SystemMetrics) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, system.measure)
            if self._log is not None:
                self._log.write_families(system.torchserve_families())
            await asyncio.sleep(self._interval)


def _is_listed(file: MetricsFile, family: Family) -> bool:
    """Return whether a metrics.yaml wants a family; those of handlers have been asked for already."""
    listed = family.name in file.server or (family.kind.value, family.name) in file.model
    return listed or family.name not in METRICS


def _worker_label(model: ServedModel, worker: WorkerProcess) -> str:
    """Return a worker's number; those that only explain are numbered apart."""
    return str(worker.number) if worker in model.workers else f"explain-{worker.number}"


def _build_info() -> Family:
    """Return a family of one series whose labels tell versions."""
    family = Family(
        "predictor_build_info",
        Kind.GAUGE,
        "Always 1; the labels tell versions.",
        ("version", "python", "torch", "kserve"),
    )
    installed = [_installed(name) for name in ("torch", "kserve")]
    family.set(1, __version__, platform.python_version(), *installed)
    return family


def _installed(package: str) -> str:
    """Return the version of a package without importing it; torch has no place in this process."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
