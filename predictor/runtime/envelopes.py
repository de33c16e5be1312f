"""Envelopes: how the body of a request becomes rows for the handler, and its answers a body again.

The protocol of a request chooses the envelope. One request may hold several rows (V1's instances, a
batch of named inputs); rows of many requests share one call of the handler, and each request gets
exactly its own answers back.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from predictor.errors import InvalidInput, InvalidOutput, PayloadTooLarge, PredictorError
from predictor.explain.placing import placed
from predictor.explain.result import Page, RichAnswer
from predictor.handlers.answers import encode_answer
from predictor.handlers.declaration import Signature
from predictor.handlers.parameters import NO_PARAMETERS, AnswerParameters
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.runtime.cloudevents import Event, binary_event, structured_event
from predictor.runtime.json_text import dump_json, load_json
from predictor.runtime.rows import Row, decode_row, request_headers
from predictor.runtime.v2 import Reply, decode_v2
from predictor.torchserve.protos import PREDICTIONS_TYPE

# Rows of one request that are checked one by one; V2 takes more of them, as tensors.
MAX_ROWS = 10_000
JSON_TYPE = ("content-type", "application/json")


class Decoded:
    """The rows of one request.

    Attributes:
        rows: one dict per example.
        headers: what the handler's context shows for each of these rows.
        single: the client sent one example without a batch axis (named inputs only).
        reply: turns the answers to these rows into a body and its headers, where the request itself
            says how (V2 only).
        event: the CloudEvent that the request came in, if it did (V1 only).
        field: what the client calls the rows (V1 only).
    """

    __slots__ = ("event", "field", "headers", "reply", "rows", "single")

    def __init__(
        self,
        rows: list[Row],
        headers: dict[str, Any],
        single: bool = True,
        reply: Reply | None = None,
        event: Event | None = None,
        field: str = "",
    ) -> None:
        """Keep what was decoded."""
        self.event = event
        self.field = field
        self.rows = rows
        self.headers = headers
        self.single = single
        self.reply = reply


def decode(
    request: InferenceRequest,
    signature: Signature | None,
    decode_input: bool = True,
    bare_instances: bool = False,
) -> Decoded:
    """Turn the body of `request` into rows.

    Args:
        signature: named inputs of the model, None for a handler that knows them itself.
        decode_input: see `rows.decode_row`.
        bare_instances: V1 rows are the instances as they came.

    Raises:
        InvalidInput: the body does not fit the protocol; the message names the field.
    """
    if request.verb is Verb.DESCRIBE:
        return Decoded([{}], request_headers(request, {}))
    if request.envelope is Envelope.V1:
        return _decode_v1(request, signature, bare_instances)
    if request.envelope is Envelope.NAMED:
        return _decode_named(request, signature)
    if request.envelope is Envelope.V2:
        rows, reply = decode_v2(request, signature)
        headers = request_headers(request, {})
        headers["explain"] = str(request.verb.value == "explain")
        return Decoded(rows, headers, reply=reply)
    if request.content_type == PREDICTIONS_TYPE:
        from predictor.runtime.rows_grpc import decode_predictions  # only where gRPC is used

        row, headers = decode_predictions(request)
        return Decoded([row], headers)
    row, types = decode_row(request, decode_input)
    if signature is not None and _is_accidental_form(request, row, signature):
        row, types = {"body": bytearray(request.body)}, {"body": ""}
    return Decoded([row], request_headers(request, types))


def _is_accidental_form(request: InferenceRequest, row: Row, signature: Signature) -> bool:
    """Return whether a body is called a form only because `curl -d` calls everything one.

    Handlers of TorchServe get the form's fields whatever they are; a model of ours knows its inputs.
    """
    known = {"data", "body", *(spec.name for spec in signature.inputs)}
    return request.content_type.startswith("application/x-www-form-urlencoded") and known.isdisjoint(row)


def encode(
    request: InferenceRequest,
    decoded: Decoded,
    answers: Sequence[Any],
    is_native: bool,
    parameters: AnswerParameters = NO_PARAMETERS,
) -> tuple[bytes, list[tuple[str, str]]]:
    """Turn the handler's answers to the rows of one request into a body and its content type header.

    Args:
        answers: one per row.
        is_native: the answers come from a handler of ours, whose dicts are JSON on every protocol.
        parameters: what the handler set on top of its answers, for V2.

    Raises:
        PredictorError: the answer to a row is an error.
        InvalidOutput: an answer cannot be serialised.
    """
    for position, answer in enumerate(answers):
        if isinstance(answer, PredictorError):
            explains = request.verb is Verb.EXPLAIN and request.envelope is Envelope.V1
            raise placed(f"{decoded.field}[{position}]", answer, answers) if explains else answer
    encoded = _encode(request, decoded, answers, is_native, parameters)
    return decoded.event.wrap(request.model[0], *encoded) if decoded.event is not None else encoded


def _encode(
    request: InferenceRequest,
    decoded: Decoded,
    answers: Sequence[Any],
    is_native: bool,
    parameters: AnswerParameters,
) -> tuple[bytes, list[tuple[str, str]]]:
    if isinstance(answers[0], Page):
        return _page(answers)
    if decoded.reply is not None:
        return decoded.reply(answers, parameters)
    if request.verb is Verb.EXPLAIN and (is_native or isinstance(answers[0], RichAnswer)):
        return dump_json(_explanations(request, answers)), [JSON_TYPE]
    if request.envelope is Envelope.V1:
        key = "explanations" if request.verb.value == "explain" else "predictions"
        return dump_json({key: list(answers)}), [JSON_TYPE]
    if request.envelope is Envelope.NAMED:
        return dump_json(_named_answer(decoded, answers)), [JSON_TYPE]
    return _encode_torchserve(answers[0]), [JSON_TYPE] if is_native else []


def _decode_v1(request: InferenceRequest, signature: Signature | None, bare: bool) -> Decoded:
    event, document = _event(request)
    if not isinstance(document, dict):
        raise InvalidInput("Request body must be a JSON object with 'instances'")
    instances = document.get("instances", document.get("inputs"))
    if not isinstance(instances, list):
        raise InvalidInput("Expected 'instances' (or 'inputs') to be a list")
    if not instances:
        raise InvalidInput("'instances' is empty")
    if len(instances) > MAX_ROWS:
        raise PayloadTooLarge(f"'instances' has {len(instances)} rows; the limit is {MAX_ROWS}")
    headers = request_headers(request, {})
    headers["explain"] = str(request.verb.value == "explain")
    rows = instances if bare else [_v1_row(instance) for instance in instances]
    if request.verb is Verb.EXPLAIN and "explain" in document:
        for row in rows:
            if isinstance(row, dict):
                row.setdefault("explain", document["explain"])
    field = "instances" if "instances" in document else "inputs"
    return Decoded(rows, headers, single=False, event=event, field=field)


def _event(request: InferenceRequest) -> tuple[Event | None, Any]:
    """Return the CloudEvent that a request is, if it is one, and the V1 document in it."""
    event = binary_event(request)
    if event is not None:
        return event, load_json(request.body) if event.holds_json else {"instances": [request.body]}
    return structured_event(request, load_json(request.body))


def _v1_row(instance: Any) -> Row:
    """Return the row of one instance; `{"b64": ...}` is decoded wherever V1 allows it."""
    value = _from_b64(instance)
    if not isinstance(value, dict):
        return {"data": value}
    return {key: _from_b64(item) for key, item in value.items()}


def _from_b64(value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except ValueError as error:
            raise InvalidInput(f"'b64' is not base64: {error}") from error
    return value


def _decode_named(request: InferenceRequest, signature: Signature | None) -> Decoded:
    document = load_json(request.body)
    if not isinstance(document, dict):
        raise InvalidInput("Request body must be a JSON object")
    headers = request_headers(request, {})
    if signature is None:
        return Decoded([{"body": document}], headers)
    rows, single = signature.split(document)
    if len(rows) > MAX_ROWS:
        raise PayloadTooLarge(f"The inputs have {len(rows)} rows; the limit is {MAX_ROWS}")
    return Decoded(rows, headers, single)


def _page(answers: Sequence[Any]) -> tuple[bytes, list[tuple[str, str]]]:
    if len(answers) > 1:
        raise InvalidInput(f"One picture or page shows one instance; the request has {len(answers)}")
    return answers[0].body, answers[0].headers


def _explanations(request: InferenceRequest, answers: Sequence[Any]) -> Any:
    """Return the explanations of a native handler in the form of the request's protocol."""
    if request.envelope is not Envelope.V1:
        return answers[0]
    document: dict[str, Any] = {"explanations": list(answers)}
    if all(isinstance(answer, RichAnswer) for answer in answers):
        document["predictions"] = [answer.predicted for answer in answers]
    return document


def _named_answer(decoded: Decoded, answers: Sequence[Any]) -> dict[str, Any]:
    if decoded.single:
        answer = answers[0]
        return answer if isinstance(answer, dict) else {"output": answer}
    if not all(isinstance(answer, dict) for answer in answers):
        return {"output": list(answers)}
    return {name: [answer[name] for answer in answers] for name in answers[0]}


def _encode_torchserve(answer: Any) -> bytes:
    try:
        return encode_answer(answer)
    except (TypeError, ValueError) as error:
        raise InvalidOutput("Unsupported model output data type.") from error
