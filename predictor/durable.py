"""Putting a file into its place for good: after a power cut there is the old one or the new one, whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# What network and FUSE file systems answer when they are asked to sync a folder.
_NOT_FOR_FOLDERS = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS)


def put(partial: Path, target: Path) -> None:
    """Rename `partial`, which is complete, to `target` in the same folder; waits for the disk.

    A rename alone may reach the disk before what was written does, and name an empty file then.

    Raises:
        OSError: one of the two cannot be opened, written to the disk or renamed.
    """
    _sync(partial, os.O_RDONLY)
    partial.replace(target)
    try:
        _sync(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
