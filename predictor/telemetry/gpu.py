"""NVIDIA's GPUs as their driver sees them, through NVML (the extra `gpu`); nothing where there are none."""

from __future__ import annotations

import dataclasses
import logging
from types import ModuleType

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One GPU at one moment.

    Attributes:
        index: as NVML counts.
        name: of its type.
        utilization: share of the last moments in which a kernel ran, 0 to 1; None where NVML cannot tell,
            as on a part of a GPU (MIG).
        memory_used: bytes, of all processes.
        memory_total: bytes.
    """

    index: int
    name: str
    utilization: float | None
    memory_used: int
    memory_total: int


class Gpus:
    """The GPUs of this machine."""

    def __init__(self, nvml: ModuleType) -> None:
        """Ask the NVML that `open_gpus` found."""
        self._nvml = nvml

    def read(self) -> list[Gpu]:
        """Measure every GPU; one that does not answer is left out."""
        return [gpu for index in range(self._nvml.nvmlDeviceGetCount()) if (gpu := self._read(index))]

    def _read(self, index: int) -> Gpu | None:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = nvml.nvmlDeviceGetName(handle)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        except nvml.NVMLError as error:
            logger.warning("GPU %d does not answer: %s", index, error)
            return None
        try:
            utilization = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        except nvml.NVMLError:
            utilization = None
        name = name.decode() if isinstance(name, bytes) else name
        return Gpu(index, name, utilization, int(memory.used), int(memory.total))


def open_gpus() -> Gpus | None:
    """Return the GPUs, None where there is no driver or the extra `gpu` is not installed."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return Gpus(pynvml)
