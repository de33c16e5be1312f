"""Signature models made in Python, and V2 requests to them, without a server."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import orjson
import torch
from runtime_fakes import make_context

from predictor.handlers.declaration import Signature
from predictor.handlers.signature import SignatureHandler
from predictor.handlers.tensors import Tensor
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.oip import inference_pb2 as pb
from predictor.oip.datatypes import GRPC_TYPE, HEADER_LENGTH
from predictor.runtime.loader import LoadedHandler
from predictor.runtime.service import Service
from predictor.runtime.tensors import from_bytes, from_json, to_bytes, to_json


class Recorder(torch.nn.Module):
    """Gives back what it gets, and keeps the shapes it was called with."""

    def __init__(self, function=None):
        super().__init__()
        self.calls = []
        self.function = function or (lambda *inputs: inputs)

    def forward(self, *inputs):
        self.calls.append([tuple(tensor.shape) for tensor in inputs])
        return self.function(*inputs)


def make_handler(section, function=None):
    handler = SignatureHandler()
    handler.signature = Signature(section)
    handler.device = torch.device("cpu")
    handler.model = Recorder(function)
    handler.explainer = SimpleNamespace(
        model=SimpleNamespace(describe=dict)
    )  # explanations are not asked for
    return handler


def make_signature_service(section, function=None):
    handler = make_handler(section, function)
    loaded = LoadedHandler(handler.handle, handler, "signature")
    return Service(loaded, make_context(), decode_input=True, max_response_size=10_000_000), handler.model


def identity(dtype, shape):
    """Return a service whose model gives its only input `x` back as the output `y`."""
    section = {
        "inputs": [{"name": "x", "dtype": dtype, "shape": list(shape)}],
        "outputs": [{"name": "y", "dtype": dtype, "shape": list(shape)}],
    }
    return make_signature_service(section)


def rest(document, tail=b"", *, verb=Verb.PREDICT, length=None, request_id="r-1"):
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = [("Inference-Header-Content-Length", str(len(head) if length is None else length))]
    return InferenceRequest(
        request_id=request_id,
        verb=verb,
        envelope=Envelope.V2,
        headers=headers if tail or length is not None else [],
        body=head + tail,
        model=("m", "1.0"),
    )


def grpc(message, *, request_id="r-1"):
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return InferenceRequest(
        request_id=request_id,
        verb=Verb.PREDICT,
        envelope=Envelope.V2,
        content_type=GRPC_TYPE,
        body=body,
        model=("m", "1.0"),
    )


def as_json(tensor: Tensor):
    """Describe a tensor with its data in JSON."""
    data = to_json(tensor)
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.array.shape),
        "data": data if isinstance(data, list) else data.tolist(),
    }


def as_binary(tensor: Tensor):
    """Describe a tensor whose data follow as bytes; returns these, too."""
    data = to_bytes(tensor)
    described = {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": list(tensor.array.shape),
        "parameters": {"binary_data_size": len(data)},
    }
    return described, data


def read_rest(result):
    """Return the JSON of an answer, and its outputs as tensors by name."""
    assert not result.error, result.message
    headers = {name.lower(): value for name, value in result.headers}
    length = int(headers.get(HEADER_LENGTH, len(result.body)))
    document, tail = orjson.loads(result.body[:length]), result.body[length:]
    outputs = {}
    for item in document["outputs"]:
        size = item.get("parameters", {}).get("binary_data_size")
        if size is None:
            tensor = from_json(item["name"], item["datatype"], item["shape"], item["data"])
        else:
            tensor = from_bytes(item["name"], item["datatype"], item["shape"], tail[:size])
            tail = tail[size:]
        outputs[item["name"]] = tensor
    assert not tail
    return document, outputs


def read_grpc(result):
    """Return the message of an answer, and its outputs as tensors by name."""
    assert not result.error, result.message
    message = pb.ModelInferResponse.FromString(result.body)
    outputs = {}
    for position, item in enumerate(message.outputs):
        if message.raw_output_contents:
            data = message.raw_output_contents[position]
            tensor = from_bytes(item.name, item.datatype, list(item.shape), data)
        else:
            (values,) = [list(values) for _, values in item.contents.ListFields()] or [[]]
            if item.datatype == "BYTES":
                array = np.array(values, dtype=object).reshape(list(item.shape))
                tensor = Tensor(item.name, "BYTES", array)
            else:
                tensor = from_json(item.name, item.datatype, list(item.shape), values)
        outputs[item.name] = tensor
    return message, outputs
