"""Measured by `@timed`, because the configuration says so; reads its own metrics back."""

from ts.handler_utils.timer import timed
from ts.torch_handler.base_handler import BaseHandler


class ProfiledHandler(BaseHandler):
    def initialize(self, context):
        self.context = context
        self.model_yaml_config = context.model_yaml_config
        self.initialized = True

    @timed
    def preprocess(self, data):
        return [row.get("body") for row in data]

    @timed
    def inference(self, data):
        return [len(value) for value in data]

    @timed
    def postprocess(self, data):
        return data
