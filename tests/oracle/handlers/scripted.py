"""TorchScript model; steps called one by one in a `handle` of its own; insights by captum."""

import logging

import torch
from captum.attr import IntegratedGradients
from ts.torch_handler.base_handler import BaseHandler

logger = logging.getLogger(__name__)


class ScriptedHandler(BaseHandler):
    def initialize(self, context):
        super().initialize(context)
        self.attribution = IntegratedGradients(self.model)

    def preprocess(self, data):
        rows = []
        for row in data:
            values = row.get("data") or row.get("body")
            if isinstance(values, dict):
                values = values["values"]
            rows.append(values)
        return torch.as_tensor(rows, dtype=torch.float, device=self.device)

    def inference(self, data, *args, **kwargs):
        with torch.no_grad():
            return torch.softmax(self.model(data), dim=1)

    def postprocess(self, data):
        return data.tolist()

    def get_insights(self, tensor_data, raw_data, target=0):
        logger.info("explaining %s", target)
        result = self.attribution.attribute(tensor_data, target=target, n_steps=10)
        return [{"attributions": row, "raw": raw_data, "target": target} for row in result.tolist()]

    def describe_handle(self):
        return {"inputs": 4, "labels": ["a", "b", "c"]}
