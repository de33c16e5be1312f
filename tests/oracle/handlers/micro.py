"""Cuts its batches into micro-batches."""

import torch
from ts.handler_utils.micro_batching import MicroBatching
from ts.torch_handler.base_handler import BaseHandler


class MicroHandler(BaseHandler):
    def __init__(self):
        super().__init__()
        self.sizes = []
        self.micro = MicroBatching(self, micro_batch_size=3)
        self.handle = self.micro.handle

    def initialize(self, ctx):
        config = ctx.model_yaml_config["micro_batching"]
        self.micro.parallelism = config["parallelism"]
        self.micro.micro_batch_size = config["micro_batch_size"]
        self.device = torch.device("cpu")
        self.initialized = True

    def preprocess(self, data):
        return torch.tensor([row["body"] for row in data], dtype=torch.float32)

    def inference(self, data):
        return torch.stack([data * 2, torch.full_like(data, len(data))], dim=1)

    def postprocess(self, data):
        return data.tolist()
