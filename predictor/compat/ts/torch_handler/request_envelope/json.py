"""The envelope `json`: TensorFlow Serving's `{"instances": [...]}` and `{"predictions": [...]}`."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from ts.torch_handler.request_envelope.base import BaseEnvelope, split_rows


class JSONEnvelope(BaseEnvelope):
    """Instances in, with `{"b64": text}` decoded to bytes; one JSON text per request out."""

    _lengths: list[int] = []

    def parse_input(self, data: Any) -> Any:
        """Return the instances of all requests; KeyError for a request without any."""
        batches = [self._instances(row) for row in data]
        self._lengths = [len(batch) for batch in batches]
        return [row for batch in batches for row in batch]

    def format_output(self, data: Any) -> Any:
        """Return `{"predictions": [...]}` of each request as text."""
        return [json.dumps({"predictions": rows}) for rows in split_rows(data, self._lengths)]

    def _instances(self, row: dict[str, Any]) -> list[Any]:
        body = row.get("data") or row.get("body") or row
        if isinstance(body, (bytes, bytearray)):
            body = json.loads(body)
        return [self._decoded(instance) for instance in body["instances"]]

    def _decoded(self, instance: Any) -> Any:
        if not isinstance(instance, dict):
            return instance
        if self._is_b64(instance):
            return b64decode(instance["b64"])
        return {
            key: b64decode(value["b64"]) if self._is_b64(value) else value for key, value in instance.items()
        }

    @staticmethod
    def _is_b64(value: Any) -> bool:
        return isinstance(value, dict) and list(value) == ["b64"]
