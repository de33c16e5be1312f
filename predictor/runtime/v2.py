"""The envelope of V2, the Open Inference Protocol: tensors in, tensors out, over REST and gRPC.

A signature model is handed one `Table` for each request, whatever number of examples it holds. Other
handlers get what TorchServe's envelope `kservev2` gave them: one row for each input, a dict of its
`name`, `datatype`, `shape` and `data`; but also one for each element of a BYTES input that has several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from predictor.errors import InvalidInput
from predictor.explain.joined import WishfulRows, has_wishes
from predictor.explain.tables import WishfulTable
from predictor.handlers.declaration import Signature
from predictor.handlers.parameters import AnswerParameters
from predictor.handlers.tensors import Array, Table, Tensor, widen_bf16
from predictor.ipc.messages import InferenceRequest, Verb
from predictor.oip.datatypes import DATATYPES, GRPC_TYPE
from predictor.runtime import v2_rest
from predictor.runtime.json_text import dump_json, load_json
from predictor.runtime.v2_call import Call, Encoded, Wanted

Row = dict[str, Any]
Reply = Callable[[Sequence[Any], AnswerParameters], Encoded]


def decode_v2(request: InferenceRequest, signature: Signature | None) -> tuple[list[Any], Reply]:
    """Return the rows of a request, and what turns the answers to them into a body and its headers.

    Raises:
        InvalidInput: the body does not fit the protocol; the message names the tensor.
    """
    wire = _wire(request)
    call = wire.parse(request)
    if not call.inputs:
        raise InvalidInput("'inputs' is empty")
    encode = partial(wire.encode, request, call)
    if signature is not None and request.verb is Verb.EXPLAIN:
        # Which outputs there are depends on the method; the explainer checks their names.
        wishful = WishfulTable(_table(call.inputs))
        wishful.parameters = call.options
        wishful.wanted = tuple(item.name for item in call.wanted)
        return [wishful], lambda answers, parameters: encode(select(call.wanted, answers[0]), parameters)
    if signature is not None:
        _check_wanted(call.wanted, [spec.name for spec in signature.outputs])
        table = _table(call.inputs)
        return [table], lambda answers, parameters: encode(select(call.wanted, answers[0]), parameters)
    rows, sizes = _rows(call)
    if request.verb is Verb.EXPLAIN and has_wishes(call.options):
        wishful_rows = WishfulRows(rows, call.options, tuple(item.name for item in call.wanted))
        return [wishful_rows], lambda answers, parameters: encode(select(call.wanted, answers[0]), parameters)
    if len(call.wanted) > len(call.inputs):
        raise InvalidInput(f"{len(call.wanted)} outputs are asked for, and there is one for each input")
    return rows, lambda answers, parameters: encode(_gather(call, sizes, answers), parameters)


def select(wanted: Sequence[Wanted], outputs: Table) -> list[Tensor]:
    """Return the outputs that a client wants, in its order; all of them when it does not say.

    Raises:
        InvalidInput: there is no such output.
    """
    _check_wanted(wanted, list(outputs))
    return [outputs[item.name] for item in wanted] if wanted else list(outputs.values())


def _wire(request: InferenceRequest) -> Any:
    if request.content_type == GRPC_TYPE:
        from predictor.runtime import v2_grpc  # only where gRPC is used: protobuf takes time to import

        return v2_grpc
    return v2_rest


def _table(tensors: Sequence[Tensor]) -> Table:
    table = Table((tensor.name, tensor) for tensor in tensors)
    if len(table) != len(tensors):
        raise InvalidInput("Two inputs have the same name")
    return table


def _check_wanted(wanted: Sequence[Wanted], names: Sequence[str]) -> None:
    for item in wanted:
        if names and item.name not in names:
            raise InvalidInput(f"Unknown output: '{item.name}'. Expected: {', '.join(names)}")


def _rows(call: Call) -> tuple[list[Row], list[int]]:
    """Return the rows for a handler, and how many of them belong to each input."""
    rows: list[Row] = []
    sizes: list[int] = []
    for tensor in call.inputs:
        values = _values(tensor)
        base: Row = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.array.shape),
        }
        if tensor.name in call.parameters:
            base["parameters"] = call.parameters[tensor.name]
        rows += [{**base, "data": value} for value in values]
        sizes.append(len(values))
    return rows, sizes


def _values(tensor: Tensor) -> list[Any]:
    """Return the data of one input as handlers know it: nested lists, or one value for each element."""
    if tensor.datatype == "BYTES":
        values = [_text(value) for value in tensor.array.reshape(-1).tolist()]
        if not values:
            raise InvalidInput(f"Input '{tensor.name}' is empty")
        return values
    array = widen_bf16(tensor.array) if tensor.datatype == "BF16" else tensor.array
    return [array.tolist()]


def _text(value: bytes | str) -> bytes | str:
    """Return text as `str`, so that a handler sees the same through JSON, binary data and gRPC."""
    if isinstance(value, str):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _gather(call: Call, sizes: Sequence[int], answers: Sequence[Any]) -> list[Tensor]:
    """Return one output for each input, named after it unless the client names its outputs."""
    outputs: list[Tensor] = []
    start = 0
    for position, (tensor, size) in enumerate(zip(call.inputs, sizes, strict=True)):
        name = call.wanted[position].name if position < len(call.wanted) else tensor.name
        mine = answers[start : start + size]
        outputs.append(answer_tensor(name, mine[0] if size == 1 else list(mine)))
        start += size
    return outputs[: len(call.wanted)] if call.wanted else outputs


def answer_tensor(name: str, answer: Any) -> Tensor:
    """Return a handler's answer as a tensor of at least one axis.

    Numbers keep numpy's type for them; what is not an array of numbers or booleans becomes BYTES: texts
    and bytes as they are, anything else as JSON.

    Raises:
        InvalidOutput: the answer has no JSON form either.
    """
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
        answer = answer.float().numpy() if str(answer.dtype) == "torch.bfloat16" else answer.numpy()
    array = _array(answer)
    if array is not None:
        return Tensor(name, DATATYPES.get(array.dtype.name, "BYTES"), array)
    values = answer if isinstance(answer, list) and answer else [answer]
    texts = np.empty(len(values), dtype=object)
    texts[:] = [_element(value) for value in values]
    return Tensor(name, "BYTES", texts)


def _array(answer: Any) -> Array | None:
    """Return numbers, booleans and texts as an array, None for anything else."""
    if isinstance(answer, (str, bytes, bytearray, dict)):
        return None
    try:
        array = np.atleast_1d(np.asarray(answer))
    except ValueError:  # lists of different lengths
        return None
    if array.dtype.kind == "U":
        return array.astype(object)
    return array if array.dtype.name in DATATYPES else None


def _element(value: Any) -> str | bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        return value
    text = dump_json(value)
    # A time or a UUID is a text in JSON, and wanted without its quotes.
    return str(load_json(text)) if text.startswith(b'"') else text
