"""Which GPUs this machine has, found out without importing torch."""

from __future__ import annotations

import os
import re
from pathlib import Path

_DEVICE_FILE = re.compile(r"nvidia\d+")


def visible_gpus(devices: Path = Path("/dev")) -> int:
    """Return the number of CUDA devices that a worker will see.

    CUDA_VISIBLE_DEVICES decides when it is set, as it does for CUDA itself; else NVIDIA's device files.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    files = [entry.name for entry in devices.iterdir() if _DEVICE_FILE.fullmatch(entry.name)]
    if chosen is None:
        return len(files)
    # CUDA stops at the first entry that is not a device; -1 is the usual way to say "none".
    entries = [entry.strip() for entry in chosen.split(",")]
    usable = entries.index("-1") if "-1" in entries else len(entries)
    return min(sum(1 for entry in entries[:usable] if entry), len(files))
