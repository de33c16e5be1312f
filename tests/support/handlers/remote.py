"""Does what the field `order` says, for TorchServe's gRPC API, over which every field is bytes."""

import json
import os
import pathlib
import time

import torch
from ts.handler_utils.utils import send_intermediate_predict_response
from ts.utils.util import PredictionException


class Remote:
    def initialize(self, context):
        self.context = context

    def handle(self, data, context):
        answers = [self.answer(row, index, context) for index, row in enumerate(data)]
        return answers[0]["whole"] if isinstance(answers[0], dict) and "whole" in answers[0] else answers

    def answer(self, row, index, context):
        if "order" not in row:
            return {
                "types": {key: type(value).__name__ for key, value in row.items()},
                "values": {key: bytes(value).decode("latin-1") for key, value in row.items()},
                "headers": dict(context.get_all_request_header(index)),
            }
        order = json.loads(bytes(row["order"]))
        return getattr(self, f"do_{order.pop('do')}")(index, context, **order)

    def do_return(self, index, context, value):
        return value

    def do_special(self, index, context, kind):
        return {"bytes": b"\x00\xff", "tensor": torch.tensor([1.5]), "object": object(), "nan": float("nan")}[
            kind
        ]

    def do_sleep(self, index, context, seconds):
        time.sleep(seconds)
        return "slept"

    def do_wait(self, index, context, path):
        while not pathlib.Path(path).exists():
            time.sleep(0.01)
        return "waited"

    def do_note(self, index, context, path, text):
        with pathlib.Path(path).open("a") as file:
            file.write(text + "\n")
        return "noted"

    def do_raise(self, index, context, text):
        raise ValueError(text)

    def do_memory(self, index, context):
        raise MemoryError

    def do_exception(self, index, context, message, code):
        raise PredictionException(message, code)

    def do_status(self, index, context, code, phrase=""):
        context.set_response_status(code, phrase, index)
        return f"with status {code}"

    def do_header(self, index, context, name, value):
        context.set_response_header(index, name, value)
        return "with a header"

    def do_whole(self, index, context, value):
        return {"whole": value}

    def do_exit(self, index, context):
        os._exit(1)

    def do_parts(self, index, context, parts, last="", fail=False, size=1, pause=0):
        for part in parts:
            send_intermediate_predict_response([part * size], context.request_ids, "part", 200, context)
            time.sleep(pause)
        if fail:
            raise ValueError("in the middle")
        return last
