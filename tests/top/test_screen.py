"""What is drawn, as text."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from top_fakes import page

from predictor.top.rates import compare
from predictor.top.screen import columns, draw, fitting, seconds, size
from predictor.top.snapshot import read_index, read_metrics

URL = "http://server:8080"


def _draw(now, before=None, width=150, height=0, problem=""):
    console = Console(width=width, record=True, file=io.StringIO())
    rows = compare(before, now) if now is not None else []
    console.print(draw(now, rows, URL, problem, width=width, height=height))
    return console.export_text()


def test_a_wide_window_shows_everything():
    before = read_metrics(page(requests=100), 100)
    text = _draw(read_metrics(page(requests=300, errors=10, gpu=0.5), 110), before)
    head, gpu, titles, row = text.splitlines()
    assert head.split() == ["predictor", "9.9", URL, "ready", "cpu", "42", "%"]
    assert "NVIDIA H100" in gpu
    assert "██████████░░░░░░░░░░  50 %  memory 8 GiB of 80 GiB" in gpu
    assert titles.split()[:4] == ["MODEL", "VERSION", "STATE", "WORKERS"]
    assert row.split()[:8] == ["digits", "1.0", "ready", "3", "1b", "1r", "50/100", "2"]
    assert row.split()[8:10] == ["21", "1"]
    assert "queue 25% infer 75%" in row


@pytest.mark.parametrize("width", [1, 10, 20, 40, 60, 80, 100, 120, 200])
def test_no_line_is_longer_than_the_window(width):
    now = read_metrics(page(requests=10, gpu=0.5, models=("a_model_with_a_rather_long_name", "b")), 1)
    for line in _draw(now, width=width).splitlines():
        assert len(line) <= width


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (1, ["MODEL"]),
        (24, ["MODEL", "STATE"]),
        (42, ["MODEL", "STATE", "QUEUE", "REQ/S"]),
        (60, ["MODEL", "STATE", "WORKERS", "QUEUE", "REQ/S", "P99"]),
    ],
)
def test_a_narrow_window_keeps_what_matters_most(width, titles):
    assert [column.title for column in fitting(columns(), width)] == titles


@pytest.mark.parametrize("height", [1, 3, 5, 8, 40])
def test_a_low_window_says_what_it_leaves_out(height):
    now = read_metrics(page(models=tuple(f"m{number:02}" for number in range(20))), 1)
    lines = _draw(now, height=height).splitlines()
    shown = sum(line.startswith("m") for line in lines)
    if height >= 4:
        assert len(lines) <= height
    assert shown == 20 or f"and {20 - shown} more" in lines[-1]


def test_a_server_that_is_gone_is_said_above_what_it_was_last():
    text = _draw(read_metrics(page(), None), problem=f"{URL} does not answer: Connection refused")
    assert f"{URL}  does not answer: Connection refused; last seen 0 s ago" in text
    assert "digits" in text


def test_before_the_first_answer():
    assert _draw(None).strip() == f"predictor {URL}  asking ..."


def test_no_model_and_no_metrics():
    assert "no model is served" in _draw(read_metrics(page(models=())))
    assert "only states are known" in _draw(read_index([{"name": "a", "state": "READY"}]))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.000012, "12 us"),
        (0.0042, "4.2 ms"),
        (0.9996, "1000 ms"),
        (1.5, "1.5 s"),
        (120, "120 s"),
    ],
)
def test_times(value, text):
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (300 << 20, "300 MiB"), (1 << 41, "2 TiB")]
)
def test_sizes(value, text):
    assert size(value) == text
