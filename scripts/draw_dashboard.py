"""Draw the Grafana dashboard from a running Prometheus, for the documentation.

    PYTHONPATH=. python scripts/draw_dashboard.py http://127.0.0.1:9090 picture.png --minutes 5

This is not Grafana: it sends every query of the dashboard to Prometheus and draws the answers at the places
that the dashboard gives them, with matplotlib.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.render_dashboard import COLUMNS, dashboard, fill_in

_PAPER, _PANEL, _INK, _FAINT = "#111217", "#181b1f", "#d8d9da", "#2c3235"
_COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#b877d9", "#f2495c", "#8ab8ff", "#96d98d")
_INCHES_PER_COLUMN, _INCHES_PER_ROW = 0.66, 0.36
_FACTORS = {"s": (1e3, "ms"), "bytes": (1 / 2**20, "MiB"), "percentunit": (100, "%"), "percent": (1, "%")}
_UNITS = {"reqps": "1/s", "none": "", "short": "", "ms": "ms", "µs": "µs"}

Series = list[tuple[str, list[float], list[float]]]


def ask(prometheus: str, expression: str, end: float, minutes: float) -> list[dict[str, Any]]:
    """Return the series of a query over the minutes until `end`, in seconds since 1970."""
    step = max(2.0, minutes * 60 / 150)
    query = {"query": fill_in(expression), "start": end - minutes * 60, "end": end, "step": step}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - a Prometheus that the caller names
        result: list[dict[str, Any]] = json.load(response)["data"]["result"]
    return result


def draw(prometheus: str, minutes: float) -> Figure:
    """Return the picture of the whole dashboard."""
    panels, end = dashboard()["panels"], time.time()
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    mpl.rcParams.update({"font.size": 7, "text.color": _INK, "axes.edgecolor": _FAINT})
    figure = Figure(figsize=(COLUMNS * _INCHES_PER_COLUMN, rows * _INCHES_PER_ROW), facecolor=_PAPER, dpi=80)
    for panel in panels:
        place = panel["gridPos"]
        box = (
            place["x"] / COLUMNS + 0.003,
            1 - (place["y"] + place["h"]) / rows + 0.001,
            place["w"] / COLUMNS - 0.006,
            place["h"] / rows - 0.002,
        )
        if panel["type"] == "row":
            figure.text(box[0], box[1] + box[3] / 4, panel["title"], fontsize=9, fontweight="bold")
            continue
        series = _series(prometheus, panel, end, minutes)
        if panel["type"] == "stat":
            _draw_stat(figure, box, panel, series)
        else:
            _draw_lines(figure, box, panel, series)
    return figure


def _series(prometheus: str, panel: dict[str, Any], end: float, minutes: float) -> Series:
    found: Series = []
    for target in panel["targets"]:
        for result in ask(prometheus, target["expr"], end, minutes):
            legend = target["legendFormat"]
            for label, value in result["metric"].items():
                legend = legend.replace(f"{{{{{label}}}}}", value)
            times = [float(moment) for moment, _ in result["values"]]
            found.append((legend, times, [float(value) for _, value in result["values"]]))
    return found


def _panel_axes(figure: Figure, box: tuple[float, float, float, float], title: str) -> None:
    back = figure.add_axes(box, facecolor=_PANEL)
    back.set_xticks([])
    back.set_yticks([])
    back.set_title(title, loc="left", fontsize=8, color=_INK, y=1.0, pad=-11, x=0.015)


def _draw_stat(
    figure: Figure, box: tuple[float, float, float, float], panel: dict[str, Any], series: Series
) -> None:
    _panel_axes(figure, box, panel["title"])
    values = [value for value in (series[0][2] if series else []) if not math.isnan(value)]
    text, colour = "No data", _INK
    if values:
        defaults = panel["fieldConfig"]["defaults"]
        factor, unit = _unit(defaults["unit"])
        text, colour = f"{values[-1] * factor:.3g} {unit}", _COLOURS[0]
        for mapping in defaults["mappings"]:
            for value, shown in mapping["options"].items():
                if values[-1] == float(value):
                    text, colour = shown["text"], _COLOURS[0] if shown["color"] == "green" else _COLOURS[5]
    x, y = box[0] + box[2] / 2, box[1] + box[3] * 0.4
    figure.text(x, y, text, fontsize=17, ha="center", va="center", color=colour)


def _draw_lines(
    figure: Figure, box: tuple[float, float, float, float], panel: dict[str, Any], series: Series
) -> None:
    _panel_axes(figure, box, panel["title"])
    inner = (box[0] + 0.03, box[1] + box[3] * 0.27, box[2] - 0.036, box[3] * 0.6)
    axes = figure.add_axes(inner, facecolor=_PANEL)
    defaults = panel["fieldConfig"]["defaults"]
    factor, unit = _unit(defaults["unit"])
    if not series:
        axes.text(0.5, 0.5, "No data", ha="center", va="center", color="#8e8e8e", transform=axes.transAxes)
    _plot(axes, series, factor, "stacking" in defaults["custom"])
    axes.set_ylim(bottom=0)
    axes.set_xticks([])
    axes.tick_params(colors=_INK, labelsize=6, length=0)
    axes.grid(color=_FAINT, linewidth=0.5)
    axes.set_title(unit, fontsize=6, loc="left", color="#8e8e8e", pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if series:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.08, -0.02),
            ncol=4,
            fontsize=6,
            frameon=False,
            labelcolor=_INK,
            handlelength=1,
            columnspacing=1,
        )


def _plot(axes: Axes, series: Series, factor: float, stacked: bool) -> None:
    times = sorted({moment for _, moments, _ in series for moment in moments})
    below = [0.0] * len(times)
    for number, (legend, moments, values) in enumerate(series[:12]):
        colour = _COLOURS[number % len(_COLOURS)]
        known = dict(zip(moments, values, strict=True))
        heights = [known.get(moment, math.nan) * factor for moment in times]
        if stacked:
            tops = [
                base + (0.0 if math.isnan(value) else value)
                for base, value in zip(below, heights, strict=True)
            ]
            axes.fill_between(times, below, tops, color=colour, alpha=0.35, linewidth=0)
            axes.plot(times, tops, color=colour, linewidth=1, label=legend)
            below = tops
        else:
            dashed = legend.endswith((" capacity", " total"))
            axes.plot(
                times, heights, color=colour, linewidth=1, label=legend, linestyle="--" if dashed else "-"
            )


def _unit(name: str) -> tuple[float, str]:
    return _FACTORS.get(name) or (1.0, _UNITS.get(name, name))


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prometheus", help="its address")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("--minutes", type=float, default=5.0)
    arguments = parser.parse_args()
    draw(arguments.prometheus, arguments.minutes).savefig(arguments.picture, facecolor=_PAPER)


if __name__ == "__main__":
    main()
