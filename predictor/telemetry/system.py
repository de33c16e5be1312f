"""What the machine is at: processors, memory, disk and GPUs, under TorchServe's names and ours."""

from __future__ import annotations

from collections.abc import Iterator

import psutil  # type: ignore[import-untyped, unused-ignore]

from predictor.telemetry.families import Family, Kind, by_name
from predictor.telemetry.gpu import Gpu, Gpus
from predictor.telemetry.torchserve import HOSTNAME, ts_family

_NAMES = (
    "CPUUtilization",
    "MemoryUsed",
    "MemoryAvailable",
    "MemoryUtilization",
    "DiskUsage",
    "DiskAvailable",
    "DiskUtilization",
    "GPUUtilization",
    "GPUMemoryUsed",
    "GPUMemoryUtilization",
)
_FIRST_SECONDS = 0.2
_MB = 1 << 20
_GB = 1 << 30


class SystemMetrics:
    """The machine, as it was when `measure` was last called."""

    def __init__(self, gpus: Gpus | None) -> None:
        """Measure the machine, and `gpus` if there are any."""
        self._gpus = gpus
        self._torchserve: list[Family] = []
        self._ours: list[Family] = []
        # psutil tells the share of the time since the last call; the first one measures a moment itself.
        self._moment: float | None = _FIRST_SECONDS

    def measure(self) -> None:
        """Look at the machine; blocks for a moment, and must be called from one thread all the time."""
        found = by_name(ts_family(name) for name in _NAMES)
        moment, self._moment = self._moment, None
        for name, value in _host(moment):
            found[name].set(value, "Host", HOSTNAME)
        gpus = self._gpus.read() if self._gpus is not None else []
        for gpu in gpus:
            for name, value in _torchserve_gpu(gpu):
                found[name].set(value, "Host", str(gpu.index), HOSTNAME)
        self._ours = _gpu_families(gpus)
        self._torchserve = list(found.values())

    def torchserve_families(self) -> list[Family]:
        """Return what was measured under TorchServe's names."""
        return self._torchserve

    def families(self) -> list[Family]:
        """Return what was measured of GPUs under ours."""
        return self._ours


def _host(moment: float | None) -> Iterator[tuple[str, float]]:
    memory = psutil.virtual_memory()
    disk = psutil.disk_usage("/")
    yield "CPUUtilization", psutil.cpu_percent(moment)
    yield "MemoryUsed", memory.used / _MB
    yield "MemoryAvailable", memory.available / _MB
    yield "MemoryUtilization", memory.percent
    yield "DiskUsage", disk.used / _GB
    yield "DiskAvailable", disk.free / _GB
    yield "DiskUtilization", disk.percent


def _torchserve_gpu(gpu: Gpu) -> Iterator[tuple[str, float]]:
    if gpu.utilization is not None:
        yield "GPUUtilization", gpu.utilization * 100
    yield "GPUMemoryUsed", gpu.memory_used / _MB
    yield "GPUMemoryUtilization", 100 * gpu.memory_used / gpu.memory_total if gpu.memory_total else 0.0


def _gpu_families(gpus: list[Gpu]) -> list[Family]:
    labels = ("gpu", "name")
    utilization = Family(
        "predictor_gpu_utilization_ratio",
        Kind.GAUGE,
        "Share of time in which the GPU worked, 0 to 1.",
        labels,
    )
    used = Family(
        "predictor_gpu_memory_used_bytes", Kind.GAUGE, "Memory of the GPU in use, by any process.", labels
    )
    total = Family("predictor_gpu_memory_total_bytes", Kind.GAUGE, "Memory of the GPU.", labels)
    for gpu in gpus:
        values = (str(gpu.index), gpu.name)
        if gpu.utilization is not None:
            utilization.set(gpu.utilization, *values)
        used.set(gpu.memory_used, *values)
        total.set(gpu.memory_total, *values)
    return [utilization, used, total]
