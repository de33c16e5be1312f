"""A class of its own, without BaseHandler, as in the first TorchServe tutorials."""

import logging
import os

logger = logging.getLogger(__name__)


class ModelHandler:
    def __init__(self):
        self.initialized = False
        self._context = None
        self.explain = False

    def initialize(self, ctx):
        self._context = ctx
        self.manifest = ctx.manifest
        properties = ctx.system_properties
        model_dir = properties.get("model_dir")
        self.device = (
            "cuda:" + str(properties.get("gpu_id")) if properties.get("gpu_id") is not None else "cpu"
        )
        self.has_manifest = os.path.isfile(os.path.join(model_dir, "MAR-INF", "MANIFEST.json"))
        self.initialized = True

    def preprocess(self, batch):
        bodies = []
        for row in batch:
            body = row.get("data")
            if body is None:
                body = row.get("body")
            bodies.append(body)
        logger.info("got %d", len(bodies))
        return bodies

    def inference(self, bodies):
        return [len(body) if body is not None else -1 for body in bodies]

    def postprocess(self, lengths):
        return [
            {"length": length, "device": self.device, "manifest": self.has_manifest} for length in lengths
        ]

    def handle(self, data, context):
        if not self.initialized:
            self.initialize(context)
        return self.postprocess(self.inference(self.preprocess(data)))
