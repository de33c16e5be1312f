"""How many cores this process may use: those it may run on, or what its control group allows, if less.

In a container the kernel shows every core of the node, while the container's CPU limit is a share of
time. Threads beyond that share only wait for each other.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where a container sees its own control group, in both versions of the interface."""


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """Return the number of cores, at least 1; part of a core counts as one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _quota(cgroups: Path) -> float | None:
    """Return the cores' worth of time that the control group allows, None where it sets no limit.

    `cpu.max` holds "QUOTA PERIOD" in microseconds, or "max PERIOD"; version 1 has a file for each, with
    -1 for no limit.
    """
    words = _words(cgroups / "cpu.max") or (
        _words(cgroups / "cpu" / "cpu.cfs_quota_us") + _words(cgroups / "cpu" / "cpu.cfs_period_us")
    )
    try:
        quota, period = (int(word) for word in words)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
