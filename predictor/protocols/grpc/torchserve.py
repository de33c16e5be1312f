"""`org.pytorch.serve.grpc.inference.InferenceAPIsService`: TorchServe's inference API over gRPC.

The source is a running TorchServe 0.12: methods, statuses, and details, in which a line with the name of
a Java class follows the text. As over HTTP the message goes to the worker as it came.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo

from predictor.errors import InvalidInput, ModelNotFound, ModelVersionNotFound, PredictorError, Unavailable
from predictor.ipc.messages import Envelope, InferenceRequest, InferenceResult, Verb
from predictor.protocols.grpc.calls import Context, current_call, guarded, metadata_of, parse
from predictor.protocols.grpc.status import torchserve_status
from predictor.protocols.requests import unique_id
from predictor.serving.model import ServedModel
from predictor.serving.registry import Registry
from predictor.serving.sequences import SequencePolicy
from predictor.torchserve.protos import PREDICTIONS_TYPE
from predictor.torchserve.protos import inference_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["InferenceAPIsService"].full_name

_ERROR_INFO = "type.googleapis.com/" + ErrorInfo.DESCRIPTOR.full_name


class _MissingParameter(InvalidInput):
    """What a request must name and does not."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Parameter {name} is required.")


class TorchServeInference:
    """Answers the methods of the service from a registry."""

    def __init__(self, registry: Registry) -> None:
        """Serve the models of `registry`."""
        self._registry = registry

    def handler(self) -> Any:
        """Return what a grpc.aio server is given."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Ping": grpc.unary_unary_rpc_method_handler(self.ping),
                "Predictions": grpc.unary_unary_rpc_method_handler(guarded(self.predictions, _status)),
                "StreamPredictions": grpc.unary_stream_rpc_method_handler(
                    guarded(self.stream_predictions, _status)
                ),
                "StreamPredictions2": grpc.stream_stream_rpc_method_handler(
                    guarded(self.stream_predictions_2, _status)
                ),
            },
        )

    async def ping(self, body: bytes, context: Context) -> bytes:
        """Say what `/ping` says; the status is OK either way. The request is not looked at: it is empty."""
        health = json.dumps({"status": "Healthy" if self._registry.serving else "Unhealthy"}, indent=2)
        return _bytes(pb.TorchServeHealthResponse(health=health))

    async def predictions(self, body: bytes, context: Context) -> bytes:
        """Answer a serialised PredictionsRequest, whole even where the handler sends parts."""
        model = self._model(parse(pb.PredictionsTarget, body))
        result = await model.infer(_message(model, body))
        if result.headers:
            await context.send_initial_metadata(metadata_of(result.headers))
        return _prediction(result)

    async def stream_predictions(self, body: bytes, context: Context) -> None:
        """Answer as `predictions`, in the parts that the handler sends."""
        model = self._model(parse(pb.PredictionsTarget, body))
        async with contextlib.aclosing(_parts(model, _message(model, body))) as parts:
            async for part in parts:
                await context.write(_prediction(part))

    async def stream_predictions_2(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Answer the requests of a sequence, each before the next one is read; errors are messages, too."""
        sequence = _Sequence()
        async for body in requests:
            try:
                request: pb.PredictionsFields = parse(pb.PredictionsFields, body)
                model = self._model(request)
                headers = sequence.headers(request, model.policy.sequences or SequencePolicy())
                async with contextlib.aclosing(_parts(model, _message(model, body, headers))) as parts:
                    async for part in parts:
                        await context.write(_prediction(part, sequence.told()))
            except PredictorError as error:
                current_call().reason = error.message
                await context.write(_failure(error))

    def _model(self, target: Any) -> ServedModel:
        """Return the model that a request means."""
        if not target.model_name:
            raise _MissingParameter("model_name")
        return self._registry.get(target.model_name, target.model_version or None)


@dataclasses.dataclass
class _Sequence:
    """Which sequence the requests of one stream belong to: the one last named, or one made for it."""

    id: str = ""
    generated: bool = False

    def headers(self, request: pb.PredictionsFields, names: SequencePolicy) -> list[tuple[str, str]]:
        """Return the headers by which the queue and the handler know the sequence.

        Raises:
            InvalidInput: it is not named, and not begun either.
        """
        starts = _says(request, names.header_start)
        if request.sequence_id:
            self.id, self.generated = request.sequence_id, False
        elif starts:
            self.id, self.generated = f"ts-seq-{uuid.uuid4()}", True
        if not self.id:
            raise _MissingParameter("sequenceId")
        headers = [(names.header_id, self.id)]
        if starts:
            headers.append((names.header_start, "true"))
        if _says(request, names.header_end):
            headers.append((names.header_end, "true"))
        return headers

    def told(self) -> str | None:
        """Return the id if the client cannot know it otherwise."""
        return self.id if self.generated else None


def _says(request: pb.PredictionsFields, key: str) -> bool:
    return any(field.key == key and field.value.strip().lower() == b"true" for field in request.input)


def _message(
    model: ServedModel, body: bytes, headers: list[tuple[str, str]] | None = None
) -> InferenceRequest:
    call = current_call()
    return InferenceRequest(
        # A stream has many requests and one id.
        request_id=unique_id(call.request_id, call.request_id if call.chosen or headers else ""),
        verb=Verb.PREDICT,
        envelope=Envelope.TORCHSERVE,
        headers=headers or [],
        content_type=PREDICTIONS_TYPE,
        body=body,
        model=(model.name, model.version),
    )


async def _parts(model: ServedModel, message: InferenceRequest) -> AsyncGenerator[InferenceResult, None]:
    """Yield the parts of an answer; closing it early withdraws the request."""
    job, result = await model.begin(message)
    try:
        yield result
        async for part in job.parts():
            yield part
    finally:
        model.cancel(job)


def _prediction(result: InferenceResult, sequence: str | None = None) -> bytes:
    return _bytes(pb.PredictionResponse(prediction=result.body, sequence_id=sequence))


def _failure(error: PredictorError) -> bytes:
    """Return an error as a message, for a stream that goes on."""
    code, details = _status(error)
    response = pb.PredictionResponse()
    response.status.code = code.value[0]
    response.status.message, _, reason = details.rpartition("\n")
    response.status.details.add(type_url=_ERROR_INFO, value=ErrorInfo(reason=reason).SerializeToString())
    return _bytes(response)


def _status(error: PredictorError) -> tuple[grpc.StatusCode, str]:
    """Return status and details as TorchServe has them; what precedes the worker is always INTERNAL."""
    status, details = torchserve_status(error)
    if isinstance(error, Unavailable) and error.model:
        return grpc.StatusCode.INTERNAL, f"{error.torchserve_message}\nInternalServerException.()"
    if isinstance(error, _MissingParameter):
        return grpc.StatusCode.INTERNAL, f"{error.torchserve_message}\n{error.torchserve_type}.()"
    if isinstance(error, (ModelNotFound, ModelVersionNotFound)):
        return grpc.StatusCode.INTERNAL, details
    return status, details


def _bytes(message: Any) -> bytes:
    serialised: bytes = message.SerializeToString()
    return serialised
