"""One model's document: its paths, and its schemas where it declares named inputs and outputs."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from predictor.ipc.messages import ModelInfo, TensorSpec
from predictor.protocols.openapi.parts import (
    ANYTHING,
    BINARY,
    TEXT,
    Json,
    answer,
    array,
    body,
    document,
    json_answer,
    json_body,
    kserve_inference,
    named_inference,
    obj,
    one_of,
    operation,
    torchserve_inference,
)
from predictor.serving.model import ServedModel

_FORMATS = {"float32": "float", "float64": "double", "int32": "int32", "int64": "int64"}
_BASE64: Json = {"type": "string", "format": "byte"}


def model_api(model: ServedModel) -> Json:
    """Return the document of one model; its schemas are those of its signature, if it has one."""
    name, info = model.name, model.info
    path = quote(name, safe="")
    schemas = _Schemas(info)
    return document(
        f"RESTful API for: {name}",
        _three_numbers(model.version),
        {
            f"/predictions/{path}": {"post": _raw(name, "Run", schemas)},
            f"/explanations/{path}": {"post": _explain(name)},
            f"/v1/models/{path}:predict": {"post": _v1(name, schemas)},
            f"/predict/{path}": {"post": _named(name, schemas)},
        },
        info.description,
    )


class _Schemas:
    """The schemas of a model's examples and answers; anything goes where no names are declared."""

    def __init__(self, info: ModelInfo) -> None:
        self.inputs = info.inputs
        self.example = _named_values(info.inputs, _input) if info.inputs else ANYTHING
        self.batch = _named_values(info.inputs, lambda spec: array(_input(spec))) if info.inputs else ANYTHING
        self.result = _named_values(info.outputs, _output) if info.outputs else ANYTHING
        self.results = (
            _named_values(info.outputs, lambda spec: array(_output(spec))) if info.outputs else ANYTHING
        )

    @property
    def media_types(self) -> dict[str, Json]:
        """How one example may be sent on TorchServe's path."""
        if not self.inputs:
            return {"*/*": BINARY}
        form = obj({spec.name: BINARY if spec.kind == "image" else TEXT for spec in self.inputs})
        found: dict[str, Json] = {"application/json": self.instance, "multipart/form-data": form}
        if len(self.inputs) == 1 and self.inputs[0].kind == "image":
            found["image/*"] = BINARY
        if len(self.inputs) == 1 and self.inputs[0].kind == "text":
            found["text/plain"] = TEXT
        return found

    @property
    def instance(self) -> Json:
        """One example as JSON: named values, or the bare value of an only input."""
        if len(self.inputs) != 1:
            return self.example
        return one_of(self.example, _input(self.inputs[0]))


def _raw(name: str, does: str, schemas: _Schemas) -> Json:
    media_types = {"application/json": schemas.result} if schemas.inputs else {"*/*": BINARY}
    return operation(
        name,
        f"{does} model {name} on one example.",
        torchserve_inference(answer("The model's answer.", media_types)),
        body=body(schemas.media_types, "One example."),
    )


def _explain(name: str) -> Json:
    return operation(
        f"{name}_explain",
        f"Explain an answer of model {name}.",
        torchserve_inference(answer("The explanation.", {"*/*": BINARY})),
        body=body({"*/*": BINARY}, "One example."),
    )


def _v1(name: str, schemas: _Schemas) -> Json:
    answers = obj({"predictions": array(schemas.result)})
    return operation(
        f"{name}_v1",
        f"Run model {name} on a list of examples.",
        kserve_inference(json_answer("One item for each instance.", answers)),
        body=json_body(obj({"instances": array(schemas.instance)}), "The examples."),
    )


def _named(name: str, schemas: _Schemas) -> Json:
    if schemas.inputs:
        given, returned = one_of(schemas.example, schemas.batch), one_of(schemas.result, schemas.results)
    else:
        given, returned = obj(), obj()
    return operation(
        f"{name}_named",
        f"Run model {name} on named inputs; a batch axis in them comes back in every output.",
        named_inference(json_answer("The outputs by name.", returned)),
        body=json_body(given, "The inputs by name."),
    )


def _three_numbers(version: str) -> str:
    """Write a version of one or two numbers with three, as TorchServe's documents do (1.0 is 1.0.0)."""
    if not re.fullmatch(r"\d+(\.\d+)?", version):
        return version
    return ".".join([*version.split("."), "0", "0"][:3])


def _named_values(specs: tuple[TensorSpec, ...], schema: Callable[[TensorSpec], Json]) -> Json:
    return obj({spec.name: schema(spec) for spec in specs})


def _input(spec: TensorSpec) -> Json:
    """Return the schema of one example's value for an input."""
    if spec.kind == "text" or spec.dtype == "string":
        return _described(TEXT, spec)
    tensor = _tensor(spec, _scalar(spec.dtype))
    return _described(one_of(_BASE64, tensor) if spec.kind == "image" else tensor, spec)


def _output(spec: TensorSpec) -> Json:
    """Return the schema of one example's value of an output; what is not finite comes as null."""
    scalar = _scalar(spec.dtype)
    if scalar["type"] == "number":
        scalar = {**scalar, "nullable": True}
    return _described(_tensor(spec, scalar), spec)


def _tensor(spec: TensorSpec, scalar: Json) -> Json:
    schema = scalar
    for size in reversed(spec.shape):
        schema = array(schema, size)
    return schema


def _scalar(dtype: str) -> Json:
    if dtype in ("string", "bool"):
        return {"type": "boolean" if dtype == "bool" else "string"}
    schema: Json = {"type": "number" if "float" in dtype else "integer"}
    return {**schema, "format": _FORMATS[dtype]} if dtype in _FORMATS else schema


def _described(schema: Json, spec: TensorSpec) -> Json:
    return {**schema, "description": spec.description} if spec.description else schema
