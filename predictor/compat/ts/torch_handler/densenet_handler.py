"""`DenseNetHandler`: tensors in and out, for models that need no other handling."""

from __future__ import annotations

import io
from typing import Any

import torch

from ts.torch_handler.base_handler import BaseHandler


class DenseNetHandler(BaseHandler):
    """A request is a tensor as `torch.save` writes it, and so is its answer, of shape [1, ...]."""

    def preprocess(self, data: Any) -> Any:
        """Return the requests' tensors, stacked; only tensors are accepted, never other pickles."""
        payloads = [row.get("data") or row.get("body") for row in data]
        return torch.stack([torch.load(io.BytesIO(payload), weights_only=True) for payload in payloads])

    def postprocess(self, data: Any) -> Any:
        """Split the batch."""
        return list(data.split(1))
