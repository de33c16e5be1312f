"""Unit names as handlers abbreviate them and as logs spell them."""

from __future__ import annotations


class Units:
    """`units` maps an abbreviation to the full name; other units are kept as they are."""

    def __init__(self) -> None:
        """Fill `units`."""
        self.units: dict[str | None, str] = {
            "ms": "Milliseconds",
            "s": "Seconds",
            "percent": "Percent",
            "count": "Count",
            "MB": "Megabytes",
            "GB": "Gigabytes",
            "kB": "Kilobytes",
            "B": "Bytes",
            "": "unit",
            None: "unit",
        }
