from __future__ import annotations

import pytest

from predictor.serving.devices import visible_gpus


@pytest.fixture
def dev(tmp_path, monkeypatch):
    """A /dev with two GPUs, and no CUDA_VISIBLE_DEVICES."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "null"):
        (tmp_path / name).touch()
    (tmp_path / "nvidia-caps").mkdir()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_no_gpu(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(tmp_path) == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert visible_gpus(tmp_path) == 0


def test_device_files_are_counted(dev):
    assert visible_gpus(dev) == 2


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ("0", 1),
        ("1", 1),
        ("0,1", 2),
        (" 1 , 0 ", 2),
        ("", 0),
        ("-1", 0),
        ("0,-1,1", 1),
        ("GPU-0b7b3ba5-1c2c-4bb5-8f6f-5b5a9a3c1c1e", 1),
        ("MIG-4f3b5c6a-0000-0000-0000-000000000000", 1),
        ("0,1,2,3", 2),
    ],
)
def test_cuda_visible_devices_decides(dev, monkeypatch, chosen, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus(dev) == count
