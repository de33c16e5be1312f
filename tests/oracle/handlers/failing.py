"""Fails in the way that the body names."""

import torch
from ts.utils.util import PredictionException


class Fail:
    def initialize(self, context):
        self.count = 0

    def handle(self, data, context):
        return handle_rows(data, context)


def handle_rows(data, context):
    if data is None:
        return None
    kind = data[0].get("body")
    if kind == "raise":
        raise RuntimeError("the secret text of the exception")
    if kind == "odd":
        raise LookupError
    if kind == "key":
        return [data[0]["nope"]]
    if kind == "assert":
        assert not data, "what a handler asserts"
    if kind == "memory":
        raise MemoryError
    if kind == "cuda":
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if kind == "cuda error":
        raise ValueError("something with CUDA in its text")
    if kind == "oom":
        raise torch.OutOfMemoryError("no memory")
    if kind == "shape":
        return torch.ones(2, 3) @ torch.ones(2, 3)
    if kind == "exception":
        raise PredictionException("told by the handler")
    if isinstance(kind, list):
        raise PredictionException(*kind)
    return {
        "none": None,
        "dict": {"a": 1},
        "str": "text",
        "tuple": ("a",),
        "too few": [],
        "too many": [1, 2],
        "tensor": torch.ones(1),
        "ok": ["fine"],
    }[kind]
