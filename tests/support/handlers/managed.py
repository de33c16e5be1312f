"""A TorchServe-style handler for tests of the management API: it tells its version, and describes itself."""

import pathlib
import time


class Managed:
    def initialize(self, context):
        options = (context.model_yaml_config or {}).get("handler") or {}
        if options.get("load_error"):
            raise RuntimeError(options["load_error"])
        self.version = context.manifest["model"]["modelVersion"]

    def handle(self, data, context):
        if context.get_request_header(0, "describe") == "True":
            return [{"version": self.version, "rows": repr(data)}]
        self.wait(bytes(data[0].get("for", b"")).decode())
        return [self.version] * len(data)

    def wait(self, path):
        """Keep the worker until the test makes the file."""
        while path and not pathlib.Path(path).exists():
            time.sleep(0.01)
