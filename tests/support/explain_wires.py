"""The same question, a prediction or an explanation of a sample model, over every protocol."""

from __future__ import annotations

import base64
import dataclasses
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from predictor.oip import inference_pb2 as pb
from support.load import Client
from support.models import SAMPLES
from support.wire import Response

PREDICT, LEGACY = "predict", "legacy"
PICTURES = {path.stem: path.read_bytes() for path in sorted((SAMPLES / "digits" / "examples").iterdir())}
WINE = json.loads((SAMPLES / "wine" / "examples" / "wine.json").read_text())
TEXTS = {"lock": "Wait until another thread releases the lock", "file": "Write the bytes to an open file"}
KEYS: Mapping[str, Sequence[str]] = {"digits": list(PICTURES), "wine": [""], "docstrings": list(TEXTS)}
# Small enough that a minute holds many of each.
_ARGS: Mapping[str, Mapping[str, Any]] = {
    "integrated_gradients": {"n_steps": 16},
    "gradient_shap": {"n_samples": 5},
    "kernel_shap": {"n_samples": 40},
    "shapley_exact": {"grid": 2},
    "occlusion": {"window": 7, "stride": 7},
    "feature_ablation": {"grid": 4},
}
_BINARY = "inference-header-content-length"


class BusyError(Exception):
    """503 with Retry-After, or what is the same over gRPC: the queue is full."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        model: digits, wine or docstrings.
        method: of explanation; "legacy" for TorchServe's answer, "predict" for a prediction.
        key: which of the model's examples.
        target: the output that is explained.
    """

    model: str
    method: str
    key: str
    target: int = 0

    @property
    def instance(self) -> Any:
        """The example as V1 has it."""
        if self.model == "wine":
            return WINE
        return TEXTS[self.key] if self.model == "docstrings" else base64.b64encode(self.picture).decode()

    @property
    def picture(self) -> bytes:
        """The example's file."""
        return PICTURES[self.key]

    @property
    def wish(self) -> dict[str, Any]:
        """The `explain` object."""
        return {"method": self.method, "target": self.target, "args": _ARGS.get(self.method, {})}

    def row(self, key: str, value: Any) -> dict[str, Any]:
        """Return a body with `value` under `key`, and the wish beside it."""
        if self.method == PREDICT:
            return {key: value}
        if self.method == LEGACY:
            return {key: value, "target": self.target}
        return {key: value, "explain": self.wish}


class Wires:
    """One client, with a connection for each protocol that it speaks."""

    def __init__(self, port: int, channel: grpc.aio.Channel) -> None:
        """Ask the server on `port`, and over `channel` for gRPC."""
        self._http = Client(port)
        self._infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )

    def close(self) -> None:
        """Drop the connection."""
        self._http.close()

    async def v1(self, question: Question) -> list[float]:
        """Ask over V1."""
        plain = question.method in (PREDICT, LEGACY)
        instance = question.row("data", question.instance) if plain else {"data": question.instance}
        body = {"instances": [instance], **({} if plain else {"explain": question.wish})}
        verb = "predict" if question.method == PREDICT else "explain"
        answer = await self._post(f"/v1/models/{question.model}:{verb}", question, body=body)
        (found,) = answer.json()["predictions" if question.method == PREDICT else "explanations"]
        return numbers(question, found)

    async def torchserve(self, question: Question) -> list[float]:
        """Ask over TorchServe's routes."""
        route = "predictions" if question.method == PREDICT else "explanations"
        named = {name: value for name, _, value in _tensors(question)}
        body = named if question.method == PREDICT else question.row("data", question.instance)
        answer = await self._post(f"/{route}/{question.model}", question, body=body)
        return numbers(question, answer.json())

    async def v2(self, question: Question) -> list[float]:
        """Ask over V2, all of it JSON."""
        tensors = [
            {"name": name, "datatype": datatype, "shape": [1], "data": [value]}
            for name, datatype, value in _tensors(question)
        ]
        answer = await self._post(_v2_path(question), question, body=_v2_body(question, tensors))
        return tensor_numbers(question, {o["name"]: o["data"] for o in answer.json()["outputs"]})

    async def binary(self, question: Question) -> list[float]:
        """Ask over V2, with bytes both ways."""
        tensors, tail = [], b""
        for name, datatype, value in _tensors(question, raw=True):
            part = struct.pack("<f", value) if datatype == "FP32" else struct.pack("<I", len(value)) + value
            size = {"binary_data_size": len(part)}
            tensors.append({"name": name, "datatype": datatype, "shape": [1], "parameters": size})
            tail += part
        document = _v2_body(question, tensors)
        document["parameters"] = {**document.get("parameters", {}), "binary_data_output": True}
        head = json.dumps(document).encode()
        headers = [(_BINARY, str(len(head))), ("Content-Type", "application/octet-stream")]
        answer = await self._post(_v2_path(question), question, body=head + tail, headers=headers)
        return tensor_numbers(question, _cut(answer))

    async def grpc(self, question: Question) -> list[float]:
        """Ask over V2's gRPC."""
        request = pb.ModelInferRequest(model_name=question.model)
        for name, datatype, value in _tensors(question, raw=True):
            contents = request.inputs.add(name=name, datatype=datatype, shape=[1]).contents
            (contents.fp32_contents if datatype == "FP32" else contents.bytes_contents).append(value)
        if question.method != PREDICT:
            request.parameters["explain"].string_param = json.dumps(question.wish)
        try:
            answer = await self._infer(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise BusyError from error
            raise AssertionError(f"{question}: {error.code()} {error.details()}") from error
        found = {o.name: o.contents.fp32_contents or o.contents.int64_contents for o in answer.outputs}
        return tensor_numbers(question, found)

    async def _post(self, path: str, question: Question, **options: Any) -> Response:
        answer = await self._http.request("POST", path, **options)
        if answer.status == 503:
            assert answer.header("retry-after"), answer
            raise BusyError
        assert answer.status == 200, (path, question, answer)
        return answer


# By name, and whether it knows TorchServe's own explanations.
WIRES: Mapping[str, tuple[Callable[..., Any], bool]] = {
    "v1": (Wires.v1, True),
    "torchserve": (Wires.torchserve, True),
    "v2": (Wires.v2, False),
    "binary": (Wires.binary, False),
    "grpc": (Wires.grpc, False),
}


def numbers(question: Question, found: Any) -> list[float]:
    """Return the numbers of a JSON answer, after looking at its shape."""
    if question.method == PREDICT:
        return list(found["probabilities"])
    if question.method == LEGACY:
        return _legacy_numbers(question, found)
    assert (found["method"], found["target"]["index"]) == (question.method, question.target), question
    if question.model == "wine":
        assert [feature["name"] for feature in found["features"]] == list(WINE)
        return [feature["attribution"] for feature in found["features"]]
    (part,) = found["inputs"]
    if question.model == "docstrings":
        assert part["words"] == TEXTS[question.key].lower().split()
        return list(part["importances"])
    return _pixels(part["attributions"])


def _legacy_numbers(question: Question, found: Any) -> list[float]:
    if question.model == "wine":
        assert list(found) == list(WINE)
        return list(found.values())
    if question.model == "docstrings":
        assert found["words"] == TEXTS[question.key].lower().split()
        return list(found["importances"])
    (channel,) = found
    return _pixels(channel)


def _pixels(rows: Any) -> list[float]:
    assert (len(rows), {len(row) for row in rows}) == (28, {28})
    return [value for row in rows for value in row]


def tensor_numbers(question: Question, outputs: Mapping[str, Any]) -> list[float]:
    """Return the numbers of an answer of tensors, flattened, after looking at their sizes."""
    if question.method == PREDICT:
        return list(outputs["probabilities"])
    assert list(outputs["target"]) == [question.target], question
    if question.model == "wine":
        return [float(outputs[f"attributions.{name}"][0]) for name in WINE]
    if question.model == "digits":
        assert len(outputs["attributions.image"]) == 28 * 28
        return list(outputs["attributions.image"])
    words = len(TEXTS[question.key].split())
    weights = list(outputs["attributions.text"])
    assert not any(weights[words:]), question
    return weights[:words]


def _tensors(question: Question, raw: bool = False) -> list[tuple[str, str, Any]]:
    """Return name, datatype and value of each input; `raw` has bytes where JSON has text."""
    if question.model == "wine":
        return [(name, "FP32", float(value)) for name, value in WINE.items()]
    if question.model == "docstrings":
        text = TEXTS[question.key]
        return [("text", "BYTES", text.encode() if raw else text)]
    return [("image", "BYTES", question.picture if raw else question.instance)]


def _v2_path(question: Question) -> str:
    verb = "infer" if question.method == PREDICT else "explain"
    return f"/v2/models/{question.model}/{verb}"


def _v2_body(question: Question, tensors: list[dict[str, Any]]) -> dict[str, Any]:
    if question.method == PREDICT:
        return {"inputs": tensors}
    return {"inputs": tensors, "parameters": {"explain": json.dumps(question.wish)}}


def _cut(answer: Response) -> dict[str, Any]:
    """Return the outputs of an answer of bytes, flat, by name; those of BYTES are left out."""
    head = int(answer.header(_BINARY) or 0)
    outputs, start = {}, head
    for output in json.loads(answer.body[:head])["outputs"]:
        end = start + output["parameters"]["binary_data_size"]
        kind = {"FP32": "<f4", "INT64": "<i8"}.get(output["datatype"])
        if kind:
            outputs[output["name"]] = np.frombuffer(answer.body[start:end], kind).tolist()
            assert len(outputs[output["name"]]) == np.prod(output["shape"]), output
        start = end
    assert start == len(answer.body)
    return outputs
