"""The envelope `body`: the handler gets the payloads themselves instead of dicts."""

from __future__ import annotations

from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope


class BodyEnvelope(BaseEnvelope):
    """One payload per request in, the handler's items out."""

    def parse_input(self, data: Any) -> Any:
        """Return what each request has under `data` or `body`."""
        return [row.get("data") or row.get("body") for row in data]

    def format_output(self, data: Any) -> Any:
        """Return the items as they are."""
        return data
