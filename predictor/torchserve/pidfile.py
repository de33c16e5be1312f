"""Which server is running: a file that holds its process id and is locked for as long as it lives.

The lock, not the number, says that a server runs. The kernel releases it when the process ends, however
it ends, so a number left behind by a crash is never mistaken for a server, and never signalled even if
another program has got it since.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import time
from pathlib import Path

_POLL_SECONDS = 0.05
_PROBE_SECONDS = 0.3


def default_path() -> Path:
    """Return where the file lies: in the temporary folder, one for each user, not TorchServe's own."""
    return Path(tempfile.gettempdir()) / f".predictor-torchserve-{os.getuid()}.pid"


class PidFile:
    """The file of one server; open and locked between `acquire` and `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The locked file; a process that inherits it keeps the lock.

        Raises:
            ValueError: it is not acquired.
        """
        if self._descriptor is None:
            raise ValueError(f"{self.path} is not locked by this process")
        return self._descriptor

    def acquire(self) -> bool:
        """Lock the file for a server that is about to start; False when another one holds it.

        Raises:
            OSError: the file cannot be made, or is a link.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        # Whoever asks `running_process` holds the lock for a moment, which must not look like a server.
        deadline = time.monotonic() + _PROBE_SECONDS
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                os.close(descriptor)
                return False
            time.sleep(_POLL_SECONDS)
        os.ftruncate(descriptor, 0)
        self._descriptor = descriptor
        return True

    def write(self, process: int) -> None:
        """Say which process the server is."""
        os.pwrite(self.descriptor, f"{process}\n".encode(), 0)

    def release(self, *, ended: bool) -> None:
        """Close the file; `ended` says that the server is gone, not that a child now holds the lock."""
        if ended:
            os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)
        self._descriptor = None

    def running_process(self) -> int | None:
        """Return the process id of the server that runs, 0 while it is just being started, else None."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if _lock(descriptor):
                return None
            text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            return int(text) if text.isdecimal() else 0
        finally:
            os.close(descriptor)

    def stop(self, patience: float) -> bool:
        """Tell the running server to stop, and wait until it is gone; False when `patience` is over.

        Halfway it is told again, which makes ours stop without waiting for requests.

        Args:
            patience: seconds.

        Raises:
            OSError: the process may not be signalled.
        """
        deadline = time.monotonic() + patience
        halfway = deadline - patience / 2
        signals = 0
        while (process := self.running_process()) is not None:
            now = time.monotonic()
            if now > deadline:
                return False
            if process and signals < (1 if now < halfway else 2):
                signals += 1
                _terminate(process)
            time.sleep(_POLL_SECONDS)
        return True


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _terminate(process: int) -> None:
    try:
        os.kill(process, signal.SIGTERM)
    except ProcessLookupError:
        return  # it ended between the look and the signal
