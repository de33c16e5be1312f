"""A text generator in the manner of the Hugging Face examples: state on the context and on the class."""

import json
import logging
import os
from abc import ABC

import torch
from ts.context import Context
from ts.handler_utils.timer import timed
from ts.torch_handler.base_handler import BaseHandler

logger = logging.getLogger(__name__)


class TransformersLikeHandler(BaseHandler, ABC):
    def __init__(self):
        super(TransformersLikeHandler, self).__init__()
        self.initialized = False

    def initialize(self, ctx: Context):
        self.manifest = ctx.manifest
        properties = ctx.system_properties
        model_dir = properties.get("model_dir")
        self.device = torch.device(
            "cuda:" + str(properties.get("gpu_id"))
            if torch.cuda.is_available() and properties.get("gpu_id") is not None
            else "cpu"
        )
        setup_config_path = os.path.join(model_dir, "setup_config.json")
        if os.path.isfile(setup_config_path):
            with open(setup_config_path) as setup_config_file:
                self.setup_config = json.load(setup_config_file)
        else:
            logger.warning("Missing the setup_config.json file.")
        self.max_length = int(ctx.model_yaml_config["handler"]["max_length"])
        with open("vocab.json") as vocabulary:
            self.tokens = json.load(vocabulary)
        ctx.cache = {}
        ctx.kv_cache = {"hits": 0}
        self.initialized = True

    @timed
    def preprocess(self, requests):
        batch = []
        for data in requests:
            text = data.get("data")
            if text is None:
                text = data.get("body")
            if isinstance(text, dict):
                text = text["text"]
            if isinstance(text, (bytes, bytearray)):
                text = text.decode("utf-8")
            batch.append([self.tokens.get(word, 0) for word in text.split()][: self.max_length])
        longest = max(len(ids) for ids in batch)
        padded = [ids + [0] * (longest - len(ids)) for ids in batch]
        return torch.tensor(padded, device=self.device), [text for text in batch]

    @timed
    def inference(self, inputs):
        ids, batch = inputs
        key = str(ids.tolist())
        if key in self.context.cache:
            self.context.kv_cache["hits"] += 1
        self.context.cache[key] = ids.sum(dim=1).tolist()
        return self.context.cache[key]

    @timed
    def postprocess(self, totals):
        for index in range(len(totals)):
            self.context.set_response_header(index, "X-Hits", str(self.context.kv_cache["hits"]))
        return [{"total": total, "lower": self.setup_config["do_lower_case"]} for total in totals]
