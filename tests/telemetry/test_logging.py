from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import sys

import pytest

from predictor.telemetry.logging import (
    AccessEntry,
    AccessLog,
    JsonFormatter,
    TextFormatter,
    configure_logging,
    configure_worker_logging,
)

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def _record(message="hello %s", *args, error=None):
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("predictor.x", logging.WARNING, "f.py", 1, message, args, info)


@pytest.fixture
def root(monkeypatch):
    """The root logger, put back afterwards; the environment too."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    for name in ("PREDICTOR_LOG_FORMAT", "PREDICTOR_LOG_LEVEL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_json_is_one_object_a_line():
    entry = json.loads(JsonFormatter().format(_record("hello %s", "w\u00f6rld")))
    assert _TIME.fullmatch(entry.pop("time"))
    assert entry == {"level": "warning", "logger": "predictor.x", "message": "hello w\u00f6rld"}


def test_json_keeps_several_lines_in_one():
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        line = JsonFormatter().format(_record("a\nb", error=error))
    assert "\n" not in line
    entry = json.loads(line)
    assert entry["message"] == "a\nb"
    assert entry["exception"].startswith("Traceback")
    assert entry["exception"].endswith("ValueError: first\nsecond")


def test_text_has_time_level_and_message():
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d WARNING hello world", TextFormatter().format(_record("hello %s", "world"))
    )


def test_configuring_replaces_what_was_there(root, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("json", "warning")
    configure_logging("json", "warning")
    logging.getLogger("predictor.test").info("not this")
    logging.getLogger("predictor.test").warning("this")
    lines = stream.getvalue().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["this"]


def test_workers_log_as_the_front_end_does(root, monkeypatch):
    configure_logging("json", "error")
    environment = {name: os.environ[name] for name in ("PREDICTOR_LOG_FORMAT", "PREDICTOR_LOG_LEVEL")}
    configure_logging("text", "debug")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configure_worker_logging()
    assert isinstance(root.handlers[0].formatter, JsonFormatter)
    assert root.level == logging.ERROR


def test_a_worker_by_itself_logs_text(root):
    configure_worker_logging()
    assert isinstance(root.handlers[0].formatter, TextFormatter)


@pytest.mark.usefixtures("instantly")
async def test_the_access_log_is_written_together_and_soon():
    stream = io.StringIO()
    log = AccessLog("json", stream)
    log.add(AccessEntry("GET", "/a", 200, 0.01234, "r1", "10.0.0.1"))
    log.add(AccessEntry("POST", "/b", 503, 1.0, "r2", ""))
    assert stream.getvalue() == ""
    await asyncio.sleep(0.3)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert _TIME.fullmatch(first.pop("time"))
    assert first == {
        "level": "info",
        "logger": "predictor.access",
        "method": "GET",
        "path": "/a",
        "status": 200,
        "ms": 12.34,
        "request_id": "r1",
        "client": "10.0.0.1",
    }
    assert (second["status"], second["ms"]) == (503, 1000.0)


async def test_the_access_log_as_text():
    stream = io.StringIO()
    log = AccessLog("text", stream)
    log.add(AccessEntry("GET", "/a", 200, 0.01234, "r1", "10.0.0.1"))
    log.flush()
    assert re.fullmatch(r"\d\d:\d\d:\d\d 200 GET /a 12.3 ms 10.0.0.1 r1\n", stream.getvalue())


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("path", ["/a\n12:00:00 200 GET /forged", "/a\r", "/\x1b[2J", "/\u2028", "/\ud800"])
async def test_a_path_cannot_forge_a_line(log_format, path):
    stream = io.StringIO()
    log = AccessLog(log_format, stream)
    log.add(AccessEntry("GET", path, 200, 0.0, "r1", "c"))
    log.flush()
    text = stream.getvalue()
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    text.encode("utf-8")


async def test_flushing_nothing_writes_nothing():
    stream = io.StringIO()
    log = AccessLog("text", stream)
    log.flush()
    assert stream.getvalue() == ""
