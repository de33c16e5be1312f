"""The device that a worker computes on."""

from __future__ import annotations

import logging

import torch

logger = logging.getLogger(__name__)


def choose_device(gpu_id: int | None, threads: int) -> torch.device:
    """Return the CUDA device `gpu_id`, or the CPU when it is None or CUDA cannot be used.

    Args:
        gpu_id: index among the visible devices.
        threads: torch's intra-op threads, 0 to leave them alone.
    """
    if threads:
        torch.set_num_threads(threads)
    if gpu_id is None:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        logger.warning(
            "GPU %d was asked for, but this PyTorch (%s) sees none; using the CPU", gpu_id, torch.__version__
        )
        return torch.device("cpu")
    device = torch.device("cuda", gpu_id)
    torch.cuda.set_device(device)
    return device


def describe_device(device: torch.device) -> str:
    """Name a device for people, such as "cpu" or "cuda:0 (NVIDIA H200)"."""
    if device.type != "cuda":
        return device.type
    return f"{device} ({torch.cuda.get_device_name(device)})"
