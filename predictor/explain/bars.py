"""A bar chart of features or words as SVG, readable in any browser and without any script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from predictor.explain.rendering import AGAINST, FOR

_ROW = 26
# Of one letter, about; names get as much room as the longest needs.
_LETTER = 6.9
_WIDEST_NAME = 460
_BAR_WIDTH = 150
_NUMBER_WIDTH = 74
_TOP = 58
_FONT = "font-family='system-ui, Segoe UI, Helvetica, Arial, sans-serif'"
_MAX_NAME = 42

Bar = tuple[str, str, float]
"""Name, remark in grey, and attribution."""


def render_bars(title: str, subtitle: str, bars: Sequence[Bar], headed: bool = True) -> str:
    """Draw one bar for each feature, to the right what speaks for the target, to the left what against.

    Args:
        bars: in the order from top to bottom.
        headed: write title and subtitle above them; a screen reader is told the title anyway.

    Returns:
        A whole SVG document; all texts are escaped.
    """
    top = max((abs(weight) for _, _, weight in bars), default=0.0) or 1.0
    longest = max((len(_short(name)) + len(remark) + 1 for name, remark, _ in bars), default=0)
    names = min(_WIDEST_NAME, round(longest * _LETTER) + 24)
    width = names + 2 * (_BAR_WIDTH + _NUMBER_WIDTH)
    above = _TOP if headed else 8
    height = above + _ROW * len(bars) + 12
    middle = names + _NUMBER_WIDTH + _BAR_WIDTH
    rows = [_row(above + position * _ROW, bar, bar[2] / top, middle) for position, bar in enumerate(bars)]
    return "\n".join(
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' {_FONT} role='img'{_size(width, height)}>",
            f"<title>{escape(title)}</title>",
            "<rect width='100%' height='100%' fill='white'/>",
            *(_heading(title, subtitle) if headed else ()),
            *rows,
            f"<line x1='{middle}' y1='{above - 4}' x2='{middle}' y2='{height - 8}' stroke='#999'/>",
            "</svg>",
        )
    )


def _heading(title: str, subtitle: str) -> tuple[str, str]:
    return (
        f"<text x='12' y='24' font-size='16' font-weight='600' fill='#111'>{escape(title)}</text>",
        f"<text x='12' y='44' font-size='12' fill='#666'>{escape(subtitle)}</text>",
    )


def _size(width: int, height: int) -> str:
    return f" viewBox='0 0 {width} {height}' width='{width}' height='{height}'"


def _row(y: int, bar: Bar, share: float, middle: int) -> str:
    name, remark, weight = bar
    length = abs(share) * _BAR_WIDTH
    left = middle if share >= 0 else middle - length
    end, anchor = (middle + length + 6, "start") if share >= 0 else (middle - length - 6, "end")
    base = y + 16
    names_end = middle - _NUMBER_WIDTH - _BAR_WIDTH - 8
    grey = f"<tspan fill='#777'> {escape(remark)}</tspan>" if remark else ""
    return (
        f"<text x='{names_end}' y='{base}' font-size='13' text-anchor='end' fill='#111'>"
        f"{escape(_short(name))}{grey}</text>"
        f"<rect x='{left:.1f}' y='{y + 3}' width='{max(length, 0.5):.1f}' height='{_ROW - 8}' rx='2' "
        f"fill='{css_colour(share)}'/>"
        f"<text x='{end:.1f}' y='{base}' font-size='12' text-anchor='{anchor}' fill='#333'>"
        f"{weight:+.3g}</text>"
    )


def css_colour(share: float, alpha: float = 1.0) -> str:
    """Return the colour of what speaks for the target (share >= 0) or against it."""
    red, green, blue = FOR if share >= 0 else AGAINST
    return f"rgba({red},{green},{blue},{alpha:.3g})"


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else name[: _MAX_NAME - 1] + "\N{HORIZONTAL ELLIPSIS}"
