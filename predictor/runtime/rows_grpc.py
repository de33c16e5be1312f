"""TorchServe's rules for turning a message of its gRPC API into the row that a handler receives."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from predictor.errors import InvalidInput
from predictor.ipc.messages import InferenceRequest
from predictor.runtime.rows import Row
from predictor.torchserve.protos.inference_pb2 import PredictionsFields


def decode_predictions(request: InferenceRequest) -> tuple[Row, dict[str, Any]]:
    """Return the row of a PredictionsRequest, and what the handler's context shows of its headers.

    Every field is a `bytearray`, the last of repeated ones wins. There are no headers but an entry for
    each field, and those of a sequence; neither `explain` nor `url_path`.

    Raises:
        InvalidInput: the body is no such message.
    """
    try:
        message = PredictionsFields.FromString(request.body)
    except DecodeError as error:
        raise InvalidInput("The message is not a PredictionsRequest") from error
    row: Row = {field.key: bytearray(field.value) for field in message.input}
    return row, {**{key: {"content-type": ""} for key in row}, **dict(request.headers)}
