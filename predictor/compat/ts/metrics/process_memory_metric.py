"""Resident memory of processes."""

from __future__ import annotations

import logging
from typing import IO

import psutil  # type: ignore[import-untyped, unused-ignore]

logger = logging.getLogger(__name__)


def get_cpu_usage(pid: str | int) -> int:
    """Return the resident memory of a process in bytes, 0 (and a log line) when it cannot be read."""
    try:
        return int(psutil.Process(int(pid)).memory_info().rss)
    except psutil.Error:
        logger.exception("no memory usage for pid %s", pid)
        return 0


def check_process_mem_usage(stdin: IO[str]) -> None:
    """Read one line of comma-separated process ids and log `pid:bytes` for each."""
    for pid in stdin.readline().strip().split(","):
        if pid:
            logger.info("%s:%d", pid, get_cpu_usage(pid))
