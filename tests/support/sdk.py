"""A server on KServe's own SDK in a process of its own, to compare with."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from support.server import START_SECONDS, STOP_SECONDS, free_port
from support.wire import Asks

_SCRIPT = Path(__file__).parent / "sdk_app.py"


class SdkServer(Asks):
    """A running `kserve.ModelServer` with the models of `sdk_app.py`; use it as a context manager.

    Attributes:
        port: of its HTTP.
        grpc_port: of its gRPC.
        log_file: what it wrote to stdout and stderr.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.grpc_port = free_port()
        with tempfile.NamedTemporaryFile(prefix="sdk-test-", suffix=".log", delete=False) as file:
            self.log_file = Path(file.name)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SdkServer:
        command = [sys.executable, str(_SCRIPT), str(self.port), str(self.grpc_port)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CE_")}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        self.log_file.unlink(missing_ok=True)

    def log(self) -> str:
        """Return what has been written so far."""
        return self.log_file.read_text(errors="replace")

    def wait_log(self, text: str, seconds: float = START_SECONDS) -> None:
        """Wait until `text` stands in the log."""
        deadline = time.monotonic() + seconds
        while text not in self.log():
            assert time.monotonic() < deadline, f"no {text!r} in the log after {seconds} s:\n{self.log()}"
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process is not None
            assert self._process.poll() is None, f"the SDK's server has ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"the SDK's server does not answer:\n{self.log()}"
            try:
                if self.get("/").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
