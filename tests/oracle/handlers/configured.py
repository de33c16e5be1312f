"""Takes its settings from the handler section of model-config.yaml."""

from ts.torch_handler.base_handler import BaseHandler


class ConfiguredHandler(BaseHandler):
    def initialize(self, ctx):
        self.context = ctx
        self.handler_config = ctx.model_yaml_config["handler"]
        self.greeting = self.handler_config["greeting"]
        self.initialized = True

    def handle(self, data, context):
        return [{"greeting": self.greeting, "all": context.model_yaml_config} for _ in data]
