"""Log output: one line an event, as text for people or as JSON for collectors."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import sys
import time
from typing import TextIO

_FORMAT_VARIABLE = "PREDICTOR_LOG_FORMAT"
_LEVEL_VARIABLE = "PREDICTOR_LOG_LEVEL"
# Lines of the access log are written together; nobody reads them faster than this.
_FLUSH_SECONDS = 0.2
# Of a stack trace: the last file, its line, and the error.
_BRIEF_LINES = 3


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC, ISO 8601), level, logger, message, and a stack trace if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        entry = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level and message in columns."""

    def __init__(self) -> None:
        """Set the columns."""
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


class BriefFormatter(TextFormatter):
    """As text, but of a long stack trace only the place and the error itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        first, *rest = super().format(record).splitlines()
        return "\n".join([first, *rest[-_BRIEF_LINES:]])


_FORMATTERS = {"json": JsonFormatter, "brief": BriefFormatter}


def configure_logging(log_format: str, level: str) -> None:
    """Send everything that is logged in this process to stderr.

    Args:
        log_format: "text", "json" or "brief".
        level: name of the lowest level that is written.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS.get(log_format, TextFormatter)())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Workers inherit the choice through their environment.
    os.environ[_FORMAT_VARIABLE] = log_format
    os.environ[_LEVEL_VARIABLE] = level


def configure_worker_logging() -> None:
    """Log in a worker as the front end does."""
    configure_logging(os.environ.get(_FORMAT_VARIABLE, "text"), os.environ.get(_LEVEL_VARIABLE, "info"))


@dataclasses.dataclass(frozen=True)
class AccessEntry:
    """One finished request.

    Attributes:
        seconds: from its head to its answer.
        client: address of the peer.
        reason: why it was refused, "" if it was not.
        grpc_status: name of the status of a gRPC call, whose `status` is the HTTP one that says the same.
        model: the model that it was about, where that is not told by the path.
    """

    method: str
    path: str
    status: int
    seconds: float
    request_id: str
    client: str
    reason: str = ""
    grpc_status: str = ""
    model: str = ""

    def as_json(self) -> str:
        """Return one JSON object."""
        entry = {
            "time": _timestamp(time.time()),
            "level": "info",
            "logger": "predictor.access",
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "ms": round(self.seconds * 1000, 2),
            "request_id": self.request_id,
            "client": self.client,
        }
        further = {"grpc_status": self.grpc_status, "model": self.model, "reason": self.reason}
        return json.dumps({**entry, **{name: text for name, text in further.items() if text}})

    def as_text(self) -> str:
        """Return one line for people."""
        clock = time.strftime("%H:%M:%S", time.localtime())
        words = [clock, str(self.status), self.method, self.path, self.model, self.grpc_status]
        words += [f"{self.seconds * 1000:.1f} ms", self.client, self.request_id, self.reason]
        return _printable(" ".join(word for word in words if word))


class AccessLog:
    """One line for each request, written a few times a second so that a request does not wait for it."""

    def __init__(self, log_format: str, stream: TextIO | None = None) -> None:
        """Write lines of `log_format` ("text" or "json") to `stream`, stdout by default."""
        self._json = log_format == "json"
        self._stream = stream or sys.stdout
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, entry: AccessEntry) -> None:
        """Note one finished request."""
        line = entry.as_json() if self._json else entry.as_text()
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what has been noted."""
        self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()


def _printable(text: str) -> str:
    """Escape control characters, so that a path cannot forge a line of the log."""
    plain = text.isascii() and text.isprintable()
    return text if plain else text.encode("unicode_escape").decode("ascii")


def _timestamp(seconds: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
