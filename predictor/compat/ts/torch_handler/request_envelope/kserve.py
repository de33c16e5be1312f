"""The envelope `kserve`: KServe's V1 protocol."""

from __future__ import annotations

import json
from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope, split_rows


class KServeEnvelope(BaseEnvelope):
    """`{"instances": [...]}` in, `{"predictions": [...]}` or `{"explanations": [...]}` out."""

    def parse_input(self, data: Any) -> Any:
        """Return the instances of all requests; KeyError for a request without any."""
        batches = [self._body(row)["instances"] for row in data]
        self._lengths = [len(batch) for batch in batches]
        return [row for batch in batches for row in batch]

    def format_output(self, data: Any) -> Any:
        """Return one V1 answer per request."""
        key = "explanations" if self._is_explain() else "predictions"
        return [{key: rows} for rows in split_rows(data, self._lengths)]

    def _body(self, row: dict[str, Any]) -> Any:
        body = row.get("data") or row.get("body")
        return json.loads(body) if isinstance(body, (bytes, bytearray)) else body

    def _is_explain(self) -> bool:
        return bool(self.context and self.context.get_request_header(0, "explain") == "True")
