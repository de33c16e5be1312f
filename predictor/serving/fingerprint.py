"""Telling whether an archive or a model folder has changed on the disk."""

from __future__ import annotations

from pathlib import Path

Fingerprint = tuple[tuple[str, int, int], ...]


def fingerprint(source: Path) -> Fingerprint:
    """Return what changes when an archive or a model folder is written to: names, sizes, times.

    Raises:
        OSError: a file went away, or cannot be looked at.
    """
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
