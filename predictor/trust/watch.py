"""Noticing that files have changed, whoever replaces them and however: in place, by rename, by symlink.

Kubernetes swaps a symlink above the files of a mounted Secret; asking for the files' own metadata sees
that, and a program that rewrites one file after another is met with a second look.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from predictor.trust.errors import TrustError

logger = logging.getLogger(__name__)

# Seconds between two looks. kubelet brings a changed Secret within a minute or two.
_PERIOD = 1.0

_Signature = tuple[object, ...]


class WatchedFiles:
    """Some files that are read together."""

    def __init__(self, what: str, paths: Sequence[Path], reload: Callable[[], None]) -> None:
        """Watch `paths`, files or folders, as they are now.

        Args:
            what: the name for the log.
            reload: reads them; raises TrustError to say that the old content stays.
        """
        self._what = what
        self._paths = tuple(paths)
        self._reload = reload
        self._seen = self._signature()

    def check(self) -> bool:
        """Read the files again if they have changed; returns whether new content counts from now on."""
        # Taken before reading: what changes while it is read is read once more.
        signature = self._signature()
        if signature == self._seen:
            return False
        self._seen = signature
        try:
            self._reload()
        except TrustError as error:
            logger.error("%s changed and cannot be used, the old content stays: %s", self._what, error)
            return False
        except Exception:
            # What nobody thought of must not end the watch over all the other files.
            logger.exception("%s changed and cannot be used, the old content stays", self._what)
            return False
        logger.info("%s read again", self._what)
        return True

    def _signature(self) -> _Signature:
        return tuple(_of(path) for path in self._paths)


async def watch(files: Sequence[WatchedFiles]) -> None:
    """Look after `files` until cancelled."""
    while True:
        await asyncio.sleep(_PERIOD)
        for each in files:
            await asyncio.to_thread(each.check)


def _of(path: Path) -> _Signature:
    """Return what tells one state of a file, or of a folder with its files, from the next."""
    try:
        found = path.stat()
        inside = sorted(path.iterdir()) if path.is_dir() else []
    except OSError:
        return ()
    own = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return (*own, *((child.name, _of(child)) for child in inside if not child.name.startswith(".")))
