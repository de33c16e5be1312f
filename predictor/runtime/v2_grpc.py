"""V2 over gRPC: a ModelInferRequest, its tensors raw or as typed contents, and a ModelInferResponse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from predictor.errors import InvalidInput
from predictor.handlers.parameters import NO_PARAMETERS, AnswerParameters, Parameter
from predictor.handlers.tensors import Tensor, element_type
from predictor.ipc.messages import InferenceRequest
from predictor.oip.datatypes import EXPLAIN
from predictor.oip.inference_pb2 import InferTensorContents, ModelInferRequest, ModelInferResponse
from predictor.runtime.tensors import check_shape, elements, from_bytes, to_bytes
from predictor.runtime.v2_call import Call, Encoded, Wanted, check_parameters

# The field of InferTensorContents that holds each datatype; FP16 and BF16 have none.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse(request: InferenceRequest) -> Call:
    """Read a request.

    Raises:
        InvalidInput: it is no ModelInferRequest, or its lengths do not add up.
    """
    try:
        message = ModelInferRequest.FromString(request.body)
    except DecodeError as error:
        raise InvalidInput("The message is not a ModelInferRequest") from error
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(f"{len(message.inputs)} inputs, but {len(raw)} raw_input_contents")
    inputs: list[Tensor] = []
    parameters: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(message.inputs):
        if item.parameters:
            check_parameters(item.name, item.parameters)
        if not raw:
            inputs.append(_typed(item))
        elif item.HasField("contents"):
            raise InvalidInput(f"Tensor '{item.name}' has both contents and raw_input_contents")
        else:
            inputs.append(from_bytes(item.name, item.datatype, list(item.shape), raw[position]))
        if item.parameters:
            parameters[item.name] = _parameters(item.parameters)
    return Call(
        id=message.id,
        inputs=inputs,
        wanted=[_wanted(item) for item in message.outputs],
        binary=bool(raw),
        parameters=parameters,
        options=_options(message.parameters),
    )


def encode(
    request: InferenceRequest, call: Call, outputs: list[Tensor], parameters: AnswerParameters = NO_PARAMETERS
) -> Encoded:
    """Return the serialised answer: raw if the request was, or if a datatype has no typed contents.

    Args:
        parameters: by output, "" for the whole answer; those of outputs that are not answered are left out.
    """
    name, version = request.model
    message = ModelInferResponse(model_name=name, model_version=version, id=call.answer_id(request))
    raw = call.binary or any(tensor.datatype not in _CONTENTS for tensor in outputs)
    _set(message.parameters, parameters.get("", {}))
    for tensor in outputs:
        item = message.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=list(tensor.array.shape))
        _set(item.parameters, parameters.get(tensor.name, {}))
        if raw:
            message.raw_output_contents.append(to_bytes(tensor))
        else:
            item.contents.CopyFrom(_contents(tensor))
    return message.SerializeToString(), []


def _wanted(output: ModelInferRequest.InferRequestedOutputTensor) -> Wanted:
    check_parameters(output.name, output.parameters)
    return Wanted(output.name)


def _typed(item: ModelInferRequest.InferInputTensor) -> Tensor:
    """Return the tensor of an input with typed contents."""
    element = element_type(item.name, item.datatype)
    shape = list(item.shape)
    field = _CONTENTS.get(item.datatype)
    if field is None:
        raise InvalidInput(f"Tensor '{item.name}': {item.datatype} must come in raw_input_contents")
    # TorchServe's clients send pictures and texts with the shape [-1].
    if item.datatype == "BYTES" and shape == [-1]:
        shape = [len(item.contents.bytes_contents)]
    count = check_shape(item.name, shape)
    values = getattr(item.contents, field)
    others = [other.name for other, _ in item.contents.ListFields() if other.name != field]
    if others or len(values) != count:
        found = f"{len(values)} {field}" + "".join(f" and {other}" for other in others)
        raise InvalidInput(
            f"Tensor '{item.name}', {item.datatype} {shape}, needs {count} {field}; got {found}"
        )
    array = np.empty(count, dtype=element)
    if element.kind in "iu" and values and not _fits(values, np.iinfo(element)):
        raise InvalidInput(f"Tensor '{item.name}': a number is out of the range of {item.datatype}")
    array[:] = values
    return Tensor(item.name, item.datatype, array.reshape(shape))


def _fits(values: Any, limits: np.iinfo[Any]) -> bool:
    wide = np.array(values, dtype=np.uint64 if limits.min == 0 else np.int64)
    return int(wide.min()) >= limits.min and int(wide.max()) <= limits.max


def _contents(tensor: Tensor) -> InferTensorContents:
    values = elements(tensor) if tensor.datatype == "BYTES" else tensor.array.reshape(-1).tolist()
    contents = InferTensorContents()
    getattr(contents, _CONTENTS[tensor.datatype]).extend(values)
    return contents


def _set(field: Any, parameters: Mapping[str, Parameter]) -> None:
    """Fill in a map of InferParameter."""
    for name, value in parameters.items():
        if isinstance(value, bool):
            field[name].bool_param = value
        elif isinstance(value, int):
            setattr(field[name], "int64_param" if value < 2**63 else "uint64_param", value)
        elif isinstance(value, float):
            field[name].double_param = value
        else:
            field[name].string_param = value


def _options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request, without the mere word that it asks for an explanation."""
    options = _parameters(parameters)
    if isinstance(options.get(EXPLAIN), bool):
        del options[EXPLAIN]
    return options


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {key: value.WhichOneof("parameter_choice") for key, value in parameters.items()}
    return {key: getattr(parameters[key], name) for key, name in chosen.items() if name}
