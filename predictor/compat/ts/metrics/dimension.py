"""A label of a metric."""

from __future__ import annotations

from typing import Any


class Dimension:
    """One label: `name` and `value`."""

    def __init__(self, name: str, value: Any) -> None:
        """Name and value as they appear in logs and on `/metrics`."""
        self.name = name
        self.value = value

    def __str__(self) -> str:
        """Return `name:value`, the form of metric log lines."""
        return f"{self.name}:{self.value}"

    def to_dict(self) -> dict[str, Any]:
        """Return `{"Name": ..., "Value": ...}`."""
        return {"Name": self.name, "Value": self.value}
