"""Eager model with a state dict; only pre- and postprocessing are its own."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class EagerHandler(BaseHandler):
    def preprocess(self, data):
        rows = [row.get("data") or row.get("body") for row in data]
        return torch.tensor(rows, dtype=torch.float32).to(self.device)

    def postprocess(self, data):
        assert not data.requires_grad
        kind = type(self.model).__name__
        return [{"scores": row, "class": row.index(max(row)), "model": kind} for row in data.tolist()]
