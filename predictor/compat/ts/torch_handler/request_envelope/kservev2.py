"""The envelope `kservev2`: KServe's V2 (open inference) protocol in JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from predictor.oip.datatypes import DATATYPES
from ts.torch_handler.request_envelope.base import BaseEnvelope, split_rows


class KServev2Envelope(BaseEnvelope):
    """Every input of a request is a row: the handler gets the input's dict, its data in its own shape.

    BYTES inputs become their first element. The output for a row carries the name of its input.
    """

    def parse_input(self, data: Any) -> Any:
        """Return the inputs of all requests; KeyError or ValueError for one that is not V2."""
        bodies = [self._body(row) for row in data]
        self._requests = [(body.get("id"), [tensor["name"] for tensor in body["inputs"]]) for body in bodies]
        rows = [self._row(tensor) for body in bodies for tensor in body["inputs"]]
        self.context.input_names = [row["name"] for row in rows]
        return rows

    def format_output(self, data: Any) -> Any:
        """Return one V2 answer per request; its id is the request's own, or the server's for it."""
        model = self.context.manifest["model"]
        pieces = split_rows(data, [len(names) for _, names in self._requests])
        return [
            {
                "id": request_id if request_id and request_id.strip() else self.context.get_request_id(index),
                "model_name": model.get("modelName"),
                "model_version": model.get("modelVersion"),
                "outputs": [self._output(name, item) for name, item in zip(names, items, strict=False)],
            }
            for index, ((request_id, names), items) in enumerate(zip(self._requests, pieces, strict=False))
        ]

    def _body(self, row: dict[str, Any]) -> Any:
        body = row.get("data") or row.get("body")
        return json.loads(body) if isinstance(body, (bytes, bytearray)) else body

    def _row(self, tensor: dict[str, Any]) -> dict[str, Any]:
        if tensor["datatype"] == "BYTES":
            return {**tensor, "data": tensor["data"][0]}
        return {**tensor, "data": np.array(tensor["data"]).reshape(tuple(tensor["shape"])).tolist()}

    def _output(self, name: str, item: Any) -> dict[str, Any]:
        values = np.atleast_1d(np.array(item))
        datatype = DATATYPES.get(str(values.dtype), "BYTES")
        return {
            "name": name,
            "datatype": datatype,
            "data": values.flatten().tolist(),
            "shape": list(values.shape),
        }
