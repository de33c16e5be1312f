"""Processors, memory, disk, and GPUs that are made up."""

from __future__ import annotations

import sys
import types

import psutil
import pytest

from predictor.telemetry.families import by_name
from predictor.telemetry.gpu import Gpus, open_gpus
from predictor.telemetry.system import SystemMetrics
from predictor.telemetry.torchserve import HOSTNAME


class NVMLError(Exception):
    pass


def _nvml(utilization=(37, 0)):
    """Two GPUs of 80 GB, the first with 8 in use; a utilization of None raises, as on MIG."""
    nvml = types.ModuleType("pynvml")
    nvml.NVMLError = NVMLError
    nvml.nvmlInit = lambda: None
    nvml.nvmlDeviceGetCount = lambda: len(utilization)
    nvml.nvmlDeviceGetHandleByIndex = lambda index: index
    nvml.nvmlDeviceGetName = lambda handle: b"H100" if handle else "H100"
    used = [8 << 30, 0]
    nvml.nvmlDeviceGetMemoryInfo = lambda handle: types.SimpleNamespace(used=used[handle], total=80 << 30)

    def rates(handle):
        if utilization[handle] is None:
            raise NVMLError("Not Supported")
        return types.SimpleNamespace(gpu=utilization[handle])

    nvml.nvmlDeviceGetUtilizationRates = rates
    return nvml


def _values(families):
    return {
        (name, *labels): series.value
        for name, family in by_name(families).items()
        for labels, series in family.series.items()
    }


def test_the_machine_under_torchserves_names():
    system = SystemMetrics(None)
    assert system.torchserve_families() == []
    system.measure()
    values = _values(system.torchserve_families())
    assert {key[0] for key in values} == {
        "CPUUtilization",
        "MemoryUsed",
        "MemoryAvailable",
        "MemoryUtilization",
        "DiskUsage",
        "DiskAvailable",
        "DiskUtilization",
    }
    assert {key[1:] for key in values} == {("Host", HOSTNAME)}
    megabytes = values["MemoryAvailable", "Host", HOSTNAME]
    assert megabytes == pytest.approx(psutil.virtual_memory().available / 2**20, rel=0.3)
    assert 0 < values["MemoryUtilization", "Host", HOSTNAME] <= 100
    assert 0 <= values["CPUUtilization", "Host", HOSTNAME] <= 100
    assert _values(system.families()) == {}


def test_gpus_under_both_names():
    system = SystemMetrics(Gpus(_nvml()))
    system.measure()
    theirs = _values(system.torchserve_families())
    assert theirs["GPUUtilization", "Host", "0", HOSTNAME] == pytest.approx(37)
    assert theirs["GPUMemoryUsed", "Host", "0", HOSTNAME] == 8192
    assert theirs["GPUMemoryUtilization", "Host", "0", HOSTNAME] == pytest.approx(10)
    assert theirs["GPUMemoryUsed", "Host", "1", HOSTNAME] == 0
    ours = _values(system.families())
    assert ours["predictor_gpu_utilization_ratio", "0", "H100"] == pytest.approx(0.37)
    assert ours["predictor_gpu_memory_used_bytes", "0", "H100"] == 8 << 30
    assert ours["predictor_gpu_memory_total_bytes", "1", "H100"] == 80 << 30


def test_a_part_of_a_gpu_tells_its_memory_alone():
    system = SystemMetrics(Gpus(_nvml(utilization=(None,))))
    system.measure()
    names = {key[0] for key in _values(system.families())}
    assert names == {"predictor_gpu_memory_used_bytes", "predictor_gpu_memory_total_bytes"}


def test_a_gpu_that_does_not_answer_is_left_out(caplog):
    nvml = _nvml()

    def lost(handle):
        raise NVMLError("GPU is lost")

    nvml.nvmlDeviceGetMemoryInfo = lost
    assert Gpus(nvml).read() == []
    assert "GPU is lost" in caplog.text


def test_gpus_are_found_by_their_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", _nvml())
    gpus = open_gpus()
    assert [gpu.name for gpu in gpus.read()] == ["H100", "H100"]


def test_no_driver_and_no_library(monkeypatch):
    nvml = _nvml()

    def missing():
        raise NVMLError("Driver Not Loaded")

    nvml.nvmlInit = missing
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert open_gpus() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpus() is None
