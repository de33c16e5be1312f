"""A TorchServe-style handler that tells what it saw, or does what the request asks for.

A JSON body `{"cmd": ...}` is an order for that one request; any other body is answered with a report of
it. Every row that is computed is noted in the file that `handler.journal` of model-config.yaml names.
"""

import hashlib
import json
import os
import pathlib
import signal
import sys
import time

from ts.utils.util import PredictionException


class Probe:
    def __init__(self):
        self.context = None
        self.journal = None
        self.calls = 0

    def initialize(self, context):
        self.context = context
        options = (context.model_yaml_config or {}).get("handler") or {}
        self.journal = options.get("journal")
        if "load_marker" in options:
            with pathlib.Path(options["load_marker"]).open("a") as file:
                file.write(f"{os.getpid()}\n")
        time.sleep(options.get("load_seconds", 0))
        if options.get("load_error"):
            raise RuntimeError(options["load_error"])

    def handle(self, data, context):
        self.calls += 1
        orders = [self.order(row) for row in data]
        for order in orders:
            if order.get("cmd") == "whole":  # what the whole call returns, instead of a list of answers
                return {"none": None, "dict": {"a": 1}, "short": [], "long": [1] * (len(data) + 1)}[
                    order["as"]
                ]
        return [
            self.answer(order, row, position, len(data))
            for position, (order, row) in enumerate(zip(orders, data, strict=True))
        ]

    def order(self, row):
        body = row.get("body", row.get("data"))
        return body if isinstance(body, dict) and "cmd" in body else {}

    def answer(self, order, row, position, batch_length):
        self.note(order.get("tag", self.context.get_request_id(position)))
        command = order.get("cmd")
        if command is None:
            return self.report(row, position, batch_length)
        time.sleep(order.get("s", 0))
        return getattr(self, f"do_{command}")(order, position)

    def note(self, tag):
        if self.journal:
            line = f"{json.dumps({'tag': tag, 'pid': os.getpid(), 'call': self.calls})}\n".encode()
            descriptor = os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, line)
            os.close(descriptor)

    def report(self, row, position, batch_length):
        return {
            "params": {key: describe(value) for key, value in row.items()},
            "headers": dict(self.context.get_all_request_header(position)),
            "request_id": self.context.get_request_id(position),
            "batch_len": batch_length,
            "model": self.context.model_name,
            "version": self.context.manifest["model"].get("modelVersion"),
        }

    # orders

    def do_sleep(self, order, position):
        return {"slept": order.get("s", 0), "tag": order.get("tag")}

    def do_wait(self, order, position):
        """Keep the worker until the test makes the file `for`."""
        while not pathlib.Path(order["for"]).exists():
            time.sleep(0.01)
        return {"tag": order.get("tag")}

    def do_tag(self, order, position):
        return {"tag": order["tag"], "pid": os.getpid()}

    def do_digest(self, order, position):
        return {"tag": order["tag"], "digest": hashlib.sha256(order["text"].encode()).hexdigest()}

    def do_print(self, order, position):
        print("printed by the handler", flush=True)  # noqa: T201 - what the test is about
        sys.stdout.write("\x00\xff not a frame\n")
        os.write(1, b"\xff\xfe raw bytes on stdout\n")
        return "printed"

    def do_exit(self, order, position):
        os._exit(order.get("code", 1))

    def do_exit_once(self, order, position):
        marker = pathlib.Path(order["marker"])
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return {"tag": order.get("tag"), "pid": os.getpid()}

    def do_sigkill(self, order, position):
        os.kill(os.getpid(), signal.SIGKILL)

    def do_sys_exit(self, order, position):
        sys.exit(3)

    def do_raise(self, order, position):
        raise ValueError(order.get("text", "secret detail of the handler"))

    def do_memory_error(self, order, position):
        raise MemoryError

    def do_prediction_exception(self, order, position):
        raise PredictionException(order["message"], order["code"])

    def do_status(self, order, position):
        self.context.set_response_status(order["code"], order.get("phrase", ""), position)
        return order.get("body", "with a status")

    def do_header(self, order, position):
        for name, value in order["headers"]:
            self.context.set_response_header(position, name, value)
        return order.get("body", "with a header")

    def do_return(self, order, position):
        return order["value"]

    def do_special(self, order, position):
        import torch

        return {
            "bytes": b"\x00\xff",
            "bytearray": bytearray(b"\x00\xfe"),
            "nan": float("nan"),
            "tensor": torch.tensor([1.5, 2.5]),
            "object": object(),
            "set": {1},
            "recursive": recursive(),
        }[order["kind"]]

    def do_big(self, order, position):
        return b"x" * order["n"]

    def do_modules(self, order, position):
        return {name: name in sys.modules for name in order["names"]}

    def do_info(self, order, position):
        return {
            "pid": os.getpid(),
            "cwd": str(pathlib.Path.cwd()),
            "path0": sys.path[0],
            "argv": sys.argv,
            "properties": {key: repr(value) for key, value in self.context.system_properties.items()},
            "config": self.context.model_yaml_config,
        }


def recursive():
    value = []
    value.append(value)
    return value


def describe(value):
    if isinstance(value, (bytes, bytearray)):
        return {"type": type(value).__name__, "len": len(value), "head": value[:100].decode("latin-1")}
    return {"type": type(value).__name__, "value": value}
