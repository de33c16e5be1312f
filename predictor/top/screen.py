"""What is drawn: a line about the server, one for each GPU, and a table of models that fits the window."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from predictor.top.rates import ModelRates
from predictor.top.snapshot import GpuState, Snapshot

_UNKNOWN = "-"
_STATE_STYLES = {"ready": "green", "failed": "bold red", "recovering": "yellow", "loading": "cyan"}
_STAGE_NAMES = {
    "queue": "queue",
    "batch_wait": "wait",
    "decode": "decode",
    "inference": "infer",
    "encode": "encode",
}
_BAR = 20


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        title: its heading.
        cell: what stands in it for a model.
        width: characters that it needs.
        rank: which columns are left out first where there is no room: the highest.
        left: words begin at the left, numbers end at the right.
    """

    title: str
    cell: Callable[[ModelRates], Text | str]
    width: int
    rank: int
    left: bool = False


def columns() -> list[Column]:
    """Return all columns, in their order."""
    return [
        Column("MODEL", lambda row: row.model, 12, 0, left=True),
        Column("VERSION", lambda row: row.version, 7, 8, left=True),
        Column("STATE", _state, 10, 1, left=True),
        Column("WORKERS", _workers, 10, 5, left=True),
        Column("QUEUE", _queue, 8, 3),
        Column("RUN", lambda row: f"{max(0.0, row.now.in_flight - row.now.queue):.0f}", 4, 9),
        Column("REQ/S", lambda row: _number(row.requests), 7, 2),
        Column("ERR/S", _errors, 6, 6),
        Column("P50", lambda row: seconds(row.p50), 7, 7),
        Column("P99", lambda row: seconds(row.p99), 7, 4),
        Column("BATCH", lambda row: _number(row.batch), 5, 10),
        Column("MEMORY", lambda row: size(row.now.memory) if row.now.memory else _UNKNOWN, 7, 11),
        Column("WHERE THE TIME GOES", _stages, 34, 12, left=True),
    ]


def draw(
    snapshot: Snapshot | None,
    rows: Sequence[ModelRates],
    url: str,
    problem: str = "",
    *,
    width: int,
    height: int = 0,
) -> RenderableType:
    """Return the whole picture.

    Args:
        snapshot: the last look, None before the first one that succeeded.
        rows: the models.
        url: the server's address.
        problem: why there is no newer look, "" if this one is new.
        width: characters of the terminal.
        height: lines of it; 0 for as many as there are.
    """
    parts: list[RenderableType] = [_head(snapshot, url, problem)]
    if snapshot is not None:
        parts += [_gpu(number, gpu, width) for number, gpu in sorted(snapshot.gpus.items())]
        if not snapshot.complete:
            parts.append(Text("/metrics is off here (enable_metrics_api): only states are known", "yellow"))
        room = max(1, height - len(parts) - 1) if height else len(rows)
        shown = rows if len(rows) <= room else rows[: max(1, room - 1)]
        parts.append(_table(shown, width, bool(problem)))
        if len(shown) < len(rows):
            parts.append(Text(f"... and {len(rows) - len(shown)} more; a taller window shows them", "dim"))
        if not rows:
            parts.append(Text("no model is served", "dim"))
    return Group(*parts)


def fitting(available: Sequence[Column], width: int) -> list[Column]:
    """Return the columns that fit into `width` characters, in their order; the most important ones stay."""
    chosen: list[Column] = []
    left = width
    for column in sorted(available, key=lambda column: column.rank):
        left -= column.width + 1
        if left < 0 and chosen:
            break
        chosen.append(column)
    return [column for column in available if column in chosen]


def seconds(value: float | None) -> str:
    """Return a time in the unit that suits it."""
    if value is None:
        return _UNKNOWN
    if value < 0.001:
        return f"{value * 1e6:.0f} us"
    if value < 1:
        return f"{_short(value * 1e3)} ms"
    return f"{_short(value)} s"


def size(value: float) -> str:
    """Return bytes in the unit that suits them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000:
            return f"{_short(value)} {unit}"
        value /= 1024
    return f"{_short(value)} TiB"


def _head(snapshot: Snapshot | None, url: str, problem: str) -> Text:
    line = Text(overflow="ellipsis", no_wrap=True)
    line.append("predictor ", "bold")
    if snapshot is not None:
        line.append(f"{snapshot.version} " if snapshot.version else "")
    line.append(f"{url}  ")
    if problem:
        line.append(problem.removeprefix(url).strip(), "bold red")
        if snapshot is not None:
            line.append(f"; last seen {time.monotonic() - snapshot.taken:.0f} s ago")
        return line
    if snapshot is None:
        line.append("asking ...", "dim")
        return line
    line.append(*(("ready", "green") if snapshot.ready else ("not ready", "bold yellow")))
    if snapshot.cpu is not None:
        line.append(f"  cpu {snapshot.cpu:.0f} %")
    if snapshot.memory is not None:
        line.append(f"  memory {snapshot.memory:.0f} %")
    return line


def _gpu(number: str, gpu: GpuState, width: int) -> Text:
    line = Text(f"GPU {number} {gpu.name}  ", overflow="ellipsis", no_wrap=True)
    if gpu.utilization is not None:
        if width >= 80:
            filled = round(gpu.utilization * _BAR)
            line.append("█" * filled, "green").append("░" * (_BAR - filled), "dim")
        line.append(f" {gpu.utilization * 100:3.0f} %  ")
    line.append(f"memory {size(gpu.used)} of {size(gpu.total)}")
    return line


def _table(rows: Sequence[ModelRates], width: int, old: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", style="dim" if old else "")
    chosen = fitting(columns(), width)
    for column in chosen:
        table.add_column(
            column.title,
            justify="left" if column.left else "right",
            no_wrap=True,
            overflow="ellipsis",
            min_width=min(column.width, width) if column.title != "MODEL" else None,
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in chosen))
    return table


def _state(row: ModelRates) -> Text:
    return Text(row.now.state or _UNKNOWN, _STATE_STYLES.get(row.now.state, "yellow"))


def _workers(row: ModelRates) -> Text:
    """Return how many workers there are, how many of them work, and how many were started again."""
    workers = row.now.workers
    text = Text(str(sum(workers.values())) if workers else _UNKNOWN)
    for state, letter in (("busy", "b"), ("starting", "s"), ("draining", "d")):
        if workers.get(state):
            text.append(f" {workers[state]}{letter}", "cyan")
    if row.now.restarts:
        text.append(f" {row.now.restarts:.0f}r", "yellow")
    return text


def _queue(row: ModelRates) -> Text:
    if not row.now.capacity:
        return Text(_UNKNOWN)
    full = row.now.queue / row.now.capacity
    style = "bold red" if full >= 1 else "yellow" if full >= 0.5 else ""
    return Text(f"{row.now.queue:.0f}/{row.now.capacity:.0f}", style)


def _errors(row: ModelRates) -> Text:
    return Text(_number(row.errors), "bold red" if row.errors else "")


def _stages(row: ModelRates) -> str:
    """Return the share of each stage that takes at least a twentieth of the time."""
    total = sum(row.stages.values())
    if not total:
        return _UNKNOWN
    shares = ((name, row.stages.get(stage, 0.0) / total) for stage, name in _STAGE_NAMES.items())
    return " ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.05)


def _number(value: float | None) -> str:
    return _UNKNOWN if value is None else _short(value)


def _short(value: float) -> str:
    """Return three digits, or all of those before the point."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}"
