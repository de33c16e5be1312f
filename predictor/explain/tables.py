"""Explanations in V2's form: tensors in, tensors out, and wishes as flat parameters."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from predictor.errors import InvalidInput
from predictor.explain.explanation import Array, Explanation, InputPart
from predictor.explain.methods import find_method
from predictor.explain.rendering import render_picture
from predictor.explain.request import KEYS, ExplainRequest
from predictor.handlers.tensors import Table, Tensor
from predictor.ipc.messages import TensorSpec

# Parameters of V2 itself.
_NOT_OURS = ("binary_data_output",)
# Keys of the `explain` object that hold more than one value; they come in `explain`, as JSON.
_NESTED = ("args", "image")
_LISTS = ("return", "metrics")
_ALWAYS = ("target", "predicted", "output", "baseline_output")


class WishfulTable(Table):
    """The inputs of a request for explanations, with its parameters.

    Attributes:
        parameters: of the whole request.
        wanted: names of the outputs that it asks for; () for all.
    """

    parameters: Mapping[str, Any] = {}
    wanted: tuple[str, ...] = ()


def document_of(parameters: Mapping[str, Any], default_method: str) -> dict[str, Any]:
    """Return the `explain` object that flat parameters describe.

    Its keys and the arguments of its method are parameters side by side; numbers may be written as text.
    Lists of words, such as `return`, may be one text with commas between them. The whole object may also
    come as JSON in the parameter `explain`.

    Raises:
        InvalidInput: a parameter is unknown; the message names those that are allowed.
    """
    document = _whole(parameters)
    given = {key: value for key, value in parameters.items() if key not in (*_NOT_OURS, "explain")}
    flat = [key for key in KEYS if key not in _NESTED]
    document.update({key: _flat(key, value) for key, value in given.items() if key in flat})
    method = find_method(document.get("method", default_method))
    arguments = {key: value for key, value in given.items() if key not in flat}
    known = [parameter.name for parameter in method.parameters]
    for key in arguments:
        if key not in known:
            raise InvalidInput(
                f"parameters.{key} is unknown; allowed are {', '.join([*flat, 'explain', *known])}"
            )
    if arguments:
        nested = document.get("args", {})
        if not isinstance(nested, dict):
            raise InvalidInput("explain.args must be an object")
        document["args"] = {**nested, **{key: _number(value) for key, value in arguments.items()}}
    return document


def target_of(parameters: Mapping[str, Any]) -> Any:
    """Return the target that parameters name, as it was sent; None where they name none.

    Raises:
        InvalidInput: the parameter `explain` is no JSON object.
    """
    target = parameters.get("target")
    return _whole(parameters).get("target") if target is None else target


def _whole(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object in the parameter `explain`, empty where there is none."""
    whole = parameters.get("explain", "{}")
    document = _json("parameters.explain", whole) if isinstance(whole, str) else None
    if not isinstance(document, dict):
        raise InvalidInput("parameters.explain must be a JSON object as text")
    return document


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{where} is not JSON: {error}") from error


@contextlib.contextmanager
def in_words_of(parameters: Mapping[str, Any]) -> Iterator[None]:
    """Let errors name fields as the client wrote them: `parameters.n_steps`, not `explain.args.n_steps`.

    Raises:
        InvalidInput: whatever is raised inside, in these words.
    """

    def as_written(field: re.Match[str]) -> str:
        return f"parameters.{field[1]}" if field[1] in parameters else field[0]

    try:
        yield
    except InvalidInput as error:
        message = re.sub(r"\bexplain\.(?:args\.)?(\w+)", as_written, error.message)
        raise InvalidInput(message) from error


def wish_for_outputs(
    request: ExplainRequest, wanted: Sequence[str], inputs: Sequence[TensorSpec]
) -> ExplainRequest:
    """Return the request with what the outputs that it asks for take, such as a picture.

    Args:
        inputs: the model's.

    Raises:
        InvalidInput: there is no such output; the message names those that there are.
    """
    attributions = [f"attributions.{spec.name}" for spec in inputs]
    attributions += [f"words.{spec.name}" for spec in inputs if spec.kind == "text"]
    delta = ["delta"] if request.method.is_complete else []
    known = (*attributions, *_ALWAYS, *delta, "image", *request.metrics)
    for name in wanted:
        if name not in known:
            raise InvalidInput(f"Unknown output: '{name}'. Expected: {', '.join(known)}")
    if "image" in wanted and "image" not in request.returns:
        return dataclasses.replace(request, returns=(*request.returns, "image"))
    return request


def _flat(key: str, value: Any) -> Any:
    if key in _LISTS and isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    if key == "baseline" and isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return _json("parameters.baseline", value)
    return value if key == "target" else _number(value)


def _number(value: Any) -> Any:
    """Return the number that a text holds, or what it was."""
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def as_table(found: Sequence[Explanation], request: ExplainRequest) -> Table:
    """Return the explanations of a request's examples as tensors with a leading batch axis."""
    columns: dict[str, tuple[str, Array]] = {}
    first = found[0]
    for index, feature in enumerate(first.features):
        weights = [explanation.features[index].attribution for explanation in found]
        columns[f"attributions.{feature.name}"] = ("FP32", np.array(weights, dtype=np.float32))
    for index, part in enumerate(first.inputs):
        values = np.stack([explanation.inputs[index].attributions for explanation in found])
        columns[f"attributions.{part.name}"] = ("FP32", values.astype(np.float32))
        if part.text is not None:
            spoken = [_words(explanation.inputs[index], values.shape[1]) for explanation in found]
            columns[f"words.{part.name}"] = ("BYTES", np.array(spoken, dtype=object))
    columns["target"] = ("INT64", np.array([explanation.target for explanation in found], dtype=np.int64))
    columns["predicted"] = (
        "INT64",
        np.array([explanation.predicted for explanation in found], dtype=np.int64),
    )
    columns["output"] = ("FP32", _floats([explanation.output for explanation in found]))
    columns["baseline_output"] = ("FP32", _floats([explanation.baseline_output for explanation in found]))
    if first.has_delta:
        columns["delta"] = ("FP32", _floats([explanation.delta for explanation in found]))
    for name in request.metrics:
        columns[name] = ("FP32", _floats([explanation.metrics[name] for explanation in found]))
    if "image" in request.returns:
        pictures = [_picture(explanation, request) for explanation in found]
        if all(pictures):
            columns["image"] = ("BYTES", np.array(pictures, dtype=object))
    return Table((name, Tensor(name, datatype, array)) for name, (datatype, array) in columns.items())


def _words(part: InputPart, length: int) -> list[str]:
    """Return the words that the attributions of a text are of, and "" where there is none."""
    words = [word for word, _, _ in part.words][:length]
    return words + [""] * (length - len(words))


def _floats(values: list[float]) -> Array:
    return np.array(values, dtype=np.float32)


def _picture(explanation: Explanation, request: ExplainRequest) -> bytes:
    for part in explanation.inputs:
        if part.kind == "image":
            return render_picture(part.values, part.attributions, request.image)
    return b""
