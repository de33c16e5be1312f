"""Ends its process, in the way that the body names; or takes too long, or answers too much."""

import os
import signal
import sys
import time


class Dying:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        kind = data[0].get("body")
        if kind == "exit":
            sys.exit(3)
        if kind == "_exit":
            os._exit(0)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "keyboard":
            raise KeyboardInterrupt
        if kind == "loop":
            while True:
                time.sleep(0.01)
        if kind == "long":
            return ["x" * 7_000_000]
        return ["alive"] * len(data)
