"""The real server in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from support.models import REPOSITORY
from support.processes import children
from support.wire import Asks

# Two cores may be shared with other things, and a worker imports torch before it is ready.
START_SECONDS = 120.0
STOP_SECONDS = 60.0


class Server(Asks):
    """A running `predictor serve`; use it as a context manager.

    Attributes:
        port: where it listens, on 127.0.0.1.
        log_file: everything that it and its workers wrote to stdout and stderr.
    """

    def __init__(
        self,
        store: Path,
        *flags: str,
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
        wait: bool = True,
    ) -> None:
        """Prepare to serve `store`.

        Args:
            flags: further arguments of the command line.
            environment: variables on top of this process's.
            port: where to listen; None lets this class choose and pass --port, 0 leaves that to `flags`
                or `environment` (then set `port` before the start, and pass none).
            wait: whether entering the context waits until the server is ready.
        """
        self._passes_port = port is None
        self.port = free_port() if port is None else port
        self._command = [sys.executable, "-m", "predictor", "serve", "--model-store", str(store), *flags]
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith("PREDICTOR_")
        }
        self._environment.update(
            {"OMP_NUM_THREADS": "1", "PREDICTOR_DRAIN_DELAY": "0", "PREDICTOR_GRPC_PORT": "0"},
            **(environment or {}),
        )
        self._wait = wait
        with tempfile.NamedTemporaryFile(prefix="predictor-test-", suffix=".log", delete=False) as file:
            self.log_file = Path(file.name)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        if self._wait:
            try:
                self.wait_ready()
            except BaseException:
                self.stop()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if kind is not None:
            lines = [line for line in self.log().splitlines() if "/v2/health/ready" not in line]
            sys.stderr.write("\n".join(["--- log of the server ---", *lines[-100:], ""]))
        self.log_file.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        assert self.process is not None, "the server has not been started"
        return self.process.pid

    def start(self) -> None:
        """Start the process; does not wait for it."""
        port = ["--port", str(self.port)] if self._passes_port else []
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, *port],
                cwd=REPOSITORY,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until every model answers."""
        self.wait_status("/v2/health/ready", 200, seconds)

    def wait_started(self, seconds: float = START_SECONDS) -> None:
        """Wait until the start is over, whether or not every model could be loaded."""
        self.wait_log("serving ", seconds)

    def wait_status(self, path: str, status: int, seconds: float = START_SECONDS) -> None:
        """Wait until `GET path` is answered with `status`."""
        deadline = time.monotonic() + seconds
        seen: object = None
        while seen != status:
            assert self.process is None or self.process.poll() is None, f"the server has ended:\n{self.log()}"
            assert time.monotonic() < deadline, (
                f"{path} is {seen}, not {status}, after {seconds} s:\n{self.log()}"
            )
            try:
                seen = self.get(path).status
            except OSError as error:
                seen = error
            if seen != status:
                time.sleep(0.05)

    def wait_log(self, text: str, seconds: float = START_SECONDS) -> None:
        """Wait until `text` stands in the log."""
        deadline = time.monotonic() + seconds
        while text not in self.log():
            assert self.process is None or self.process.poll() is None, f"the server has ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"no {text!r} in the log after {seconds} s:\n{self.log()}"
            time.sleep(0.05)

    def wait_exit(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end of the process; returns its exit status."""
        assert self.process is not None, "the server has not been started"
        return self.process.wait(seconds)

    def signal(self, number: int) -> None:
        """Send a signal to the front end alone."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End the process and all of its workers, however they are."""
        if self.process is None:
            return
        if self.process.poll() is None:
            workers = self.workers()
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for worker in workers:
                    _kill(worker)
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        """Return what has been written so far."""
        return self.log_file.read_text(errors="replace")

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return children(self.pid)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on, and that only who names it will get.

    A server takes seconds until it binds it. Until then no other test may be given it, nor a client that
    connects to somewhere: this process keeps it bound. Linux lets a server with SO_REUSEADDR, which all of
    ours have, bind it too, as long as nobody listens.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform == "linux":
            holder.detach()
        return port


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
