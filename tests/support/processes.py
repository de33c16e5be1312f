"""Looking at processes from outside, through /proc."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def children(pid: int) -> list[int]:
    """Return the ids of the direct children of `pid`, zombies included."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sorted(number for number in numbers if _stat(number)[1:2] == [str(pid)])


def is_running(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    stat = _stat(pid)
    return bool(stat) and stat[0] not in ("Z", "X")


def is_zombie(pid: int) -> bool:
    """Say whether a process has ended and nobody has asked for its exit status."""
    return _stat(pid)[:1] == ["Z"]


def open_files(pid: int) -> list[str]:
    """Return what the file descriptors of a process refer to."""
    return [_link(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]


def mapped_files(pid: int) -> str:
    """Return /proc/PID/maps: every library that the process has loaded."""
    return Path(f"/proc/{pid}/maps").read_text()


def resident_bytes(pid: int) -> int:
    """Return the resident set size of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """Return the largest resident set size that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def wait_until(condition: Callable[[], object], seconds: float, what: str, every: float = 0.05) -> None:
    """Wait for `condition`; AssertionError with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(every)


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return "closed meanwhile"


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on, [] when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
