"""V2 over REST: a JSON object, and behind it, where the header says so, tensors as bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from predictor.errors import InvalidInput
from predictor.handlers.parameters import NO_PARAMETERS, AnswerParameters
from predictor.handlers.tensors import Tensor
from predictor.ipc.messages import InferenceRequest
from predictor.oip.datatypes import HEADER_LENGTH
from predictor.runtime.json_text import parse_constants
from predictor.runtime.tensors import from_bytes, from_json, to_bytes, to_json
from predictor.runtime.v2_call import Call, Encoded, Wanted, check_parameters

Parameters = dict[str, bool | int | float | str | None]


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = msgspec.Raw()


class _Document(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Output] | None = None


_DECODER = msgspec.json.Decoder(_Document)


def parse(request: InferenceRequest) -> Call:
    """Read a request.

    Raises:
        InvalidInput: it is not JSON of this form, or its lengths do not add up.
    """
    header, rest = _cut(request)
    document, values = _document(header)
    binary = _Binary(rest)
    inputs: list[Tensor] = []
    parameters: dict[str, dict[str, Any]] = {}
    for item, value in zip(document.inputs, values, strict=True):
        if item.parameters:
            check_parameters(item.name, item.parameters)
        inputs.append(_tensor(item, value, binary))
        if item.parameters:
            kept = {key: given for key, given in item.parameters.items() if key != "binary_data_size"}
            if kept:
                parameters[item.name] = kept
    binary.check_end()
    return Call(
        id=document.id or "",
        inputs=inputs,
        wanted=[_wanted(item) for item in document.outputs or []],
        binary=bool(_flag(document.parameters, "binary_data_output")),
        parameters=parameters,
        options=dict(document.parameters or {}),
    )


def encode(
    request: InferenceRequest, call: Call, outputs: list[Tensor], parameters: AnswerParameters = NO_PARAMETERS
) -> Encoded:
    """Return the answer's body and headers; an output that JSON cannot hold goes as bytes unasked.

    Args:
        parameters: by output, "" for the whole answer; those of outputs that are not answered are left out.
    """
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for tensor in outputs:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.array.shape),
        }
        data = None if call.wants_binary(tensor.name) else to_json(tensor)
        if data is None:
            part = to_bytes(tensor)
            tail.append(part)
            entry["parameters"] = {**parameters.get(tensor.name, {}), "binary_data_size": len(part)}
        else:
            entry["data"] = data
            if tensor.name in parameters:
                entry["parameters"] = parameters[tensor.name]
        described.append(entry)
    name, version = request.model
    document: dict[str, Any] = {
        "model_name": name,
        "model_version": version,
        "id": call.answer_id(request),
        "outputs": described,
    }
    if "" in parameters:
        document["parameters"] = parameters[""]
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return head, [("content-type", "application/json")]
    headers = [("content-type", "application/octet-stream"), (HEADER_LENGTH, str(len(head)))]
    return b"".join((head, *tail)), headers


def _cut(request: InferenceRequest) -> tuple[bytes, memoryview]:
    """Return the JSON part of a body and the bytes behind it; there always is a JSON part."""
    text = next((value for name, value in request.headers if name.lower() == HEADER_LENGTH), None)
    if text is None:
        return bytes(request.body), memoryview(b"")
    if not (text.isascii() and text.isdigit() and len(text) < 12 and 0 < int(text) <= len(request.body)):
        raise InvalidInput(
            f"{HEADER_LENGTH} must be a number from 1 to the body's length, {len(request.body)}; got {text!r}"
        )
    body = memoryview(request.body)
    return bytes(body[: int(text)]), body[int(text) :]


def _document(header: bytes) -> tuple[_Document, list[Any]]:
    """Parse the JSON part; the data of its tensors stays JSON text wherever that is possible."""
    try:
        document = _DECODER.decode(header)
        return document, [_given(item.data) for item in document.inputs]
    except msgspec.ValidationError as error:
        raise InvalidInput(f"Invalid request: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b"NaN" in header or b"Infinity" in header:
            return _with_constants(header)
        hint = ""
        if "trailing characters" in str(error):
            hint = f"; where tensors follow it as bytes, {HEADER_LENGTH} tells its length"
        raise InvalidInput(f"Invalid JSON: {error}{hint}") from error


def _given(data: msgspec.Raw) -> msgspec.Raw | None:
    """Return the JSON text of a tensor's data, None when there is none; null is none, too."""
    return None if bytes(data) in (b"", b"null") else data


def _with_constants(header: bytes) -> tuple[_Document, list[Any]]:
    """Parse JSON in which numbers may be NaN or Infinity."""
    try:
        document = parse_constants(header)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"Invalid JSON: {error}") from error
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list):
        raise InvalidInput("Invalid request: 'inputs' must be a list")
    values = [item.pop("data", None) if isinstance(item, dict) else None for item in inputs]
    try:
        return msgspec.convert(document, _Document), values
    except msgspec.ValidationError as error:
        raise InvalidInput(f"Invalid request: {error}") from error


class _Binary:
    """The bytes behind the JSON part, handed out in order."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def take(self, name: str, size: Any) -> memoryview:
        left = len(self._data) - self._position
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= left:
            raise InvalidInput(f"Tensor '{name}': binary_data_size is {size!r}, and {left} bytes are left")
        start = self._position
        self._position += size
        return self._data[start : self._position]

    def check_end(self) -> None:
        left = len(self._data) - self._position
        if left:
            raise InvalidInput(f"{left} bytes follow the last tensor")


def _tensor(item: _Input, value: Any, binary: _Binary) -> Tensor:
    size = (item.parameters or {}).get("binary_data_size")
    if size is not None:
        if value is not None:
            raise InvalidInput(f"Tensor '{item.name}' has both 'data' and 'binary_data_size'")
        return from_bytes(item.name, item.datatype, item.shape, binary.take(item.name, size))
    if value is None:
        raise InvalidInput(f"Tensor '{item.name}' has neither 'data' nor 'binary_data_size'")
    return from_json(item.name, item.datatype, item.shape, value)


def _wanted(output: _Output) -> Wanted:
    if output.parameters:
        check_parameters(output.name, output.parameters)
    return Wanted(output.name, _flag(output.parameters, "binary_data"))


def _flag(parameters: Parameters | None, name: str) -> bool | None:
    value = (parameters or {}).get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidInput(f"Parameter '{name}' must be true or false")
    return value
