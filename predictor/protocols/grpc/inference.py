"""`inference.GRPCInferenceService`: V2 over gRPC.

A request to infer is passed on to the worker as the bytes it came in, and the worker's answer sent as
the bytes it is: tensors are neither parsed nor written here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from predictor import __version__
from predictor.errors import ModelNotFound, PredictorError
from predictor.ipc.messages import Envelope, InferenceRequest, InferenceResult, Verb
from predictor.oip import inference_pb2 as pb
from predictor.oip.datatypes import EXPLAIN, GRPC_TYPE
from predictor.protocols import inference, kserve
from predictor.protocols.grpc.calls import Context, Method, current_call, guarded, metadata_of, parse
from predictor.protocols.grpc.status import status_of, status_of_http
from predictor.protocols.requests import unique_id
from predictor.serving.manager import ModelManager
from predictor.serving.registry import Registry

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class InferenceService:
    """Answers the methods of the service from a registry."""

    def __init__(self, registry: Registry, manager: ModelManager | None = None) -> None:
        """Serve the models of `registry`; clients may load and unload them where there is a `manager`."""
        self._registry = registry
        self._manager = manager

    def handler(self, service: str = SERVICE) -> Any:
        """Return what a grpc.aio server is given, under the full name `service`."""
        methods: dict[str, Any] = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(guarded(self.model_infer, _status)),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                guarded(self.model_stream_infer, _status)
            ),
        }
        for name, request_type, method in (
            ("ServerLive", pb.ServerLiveRequest, self.server_live),
            ("ServerReady", pb.ServerReadyRequest, self.server_ready),
            ("ModelReady", pb.ModelReadyRequest, self.model_ready),
            ("ServerMetadata", pb.ServerMetadataRequest, self.server_metadata),
            ("ModelMetadata", pb.ModelMetadataRequest, self.model_metadata),
            ("RepositoryIndex", pb.RepositoryIndexRequest, self.repository_index),
            ("RepositoryModelLoad", pb.RepositoryModelLoadRequest, self.repository_load),
            ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest, self.repository_unload),
        ):
            methods[name] = grpc.unary_unary_rpc_method_handler(
                guarded(_parsed(request_type, method), _status), response_serializer=_serialise
            )
        return grpc.method_handlers_generic_handler(service, methods)

    async def server_live(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Say whether no model has been given up."""
        return pb.ServerLiveResponse(live=self._registry.healthy)

    async def server_ready(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Say whether every model answers and new requests are welcome."""
        return pb.ServerReadyResponse(ready=self._registry.ready)

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Say whether one model answers; who asks needs no token, and is not told which models there are."""
        try:
            model = self._registry.get(request.name, request.version or None)
        except ModelNotFound as error:
            raise ModelNotFound(error.model) from None
        return pb.ModelReadyResponse(ready=model.ready)

    async def server_metadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Return name, version and extensions of this server."""
        return pb.ServerMetadataResponse(**inference.server_metadata(__version__))

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Return versions, inputs and outputs of a model."""
        model = self._registry.get(request.name, request.version or None)
        return pb.ModelMetadataResponse(**inference.model_metadata(self._registry, model, request.name))

    async def repository_index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """List every version of every model."""
        return pb.RepositoryIndexResponse(
            models=[
                pb.RepositoryIndexResponse.ModelIndex(**entry)
                for entry in inference.repository_index(self._registry, request.ready)
            ]
        )

    async def repository_load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Serve the model that the store has under this name, as it is there now."""
        if self._manager is None:
            raise kserve.ControlDisabled("load")
        inference.check_load(request.parameters)
        name = request.triton_model_name or request.model_name
        await self._manager.load(name)
        return pb.RepositoryModelLoadResponse(model_name=name, isLoaded=True)

    async def repository_unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Stop serving every version of a model, once it is idle."""
        if self._manager is None:
            raise kserve.ControlDisabled("unload")
        name = request.triton_model_name or request.model_name
        await self._manager.unload(name)
        return pb.RepositoryModelUnloadResponse(model_name=name, isUnloaded=True)

    async def model_infer(self, body: bytes, context: Context) -> bytes:
        """Answer a serialised ModelInferRequest with a serialised ModelInferResponse."""
        call = current_call()
        result = await self._infer(
            parse(pb.ModelInferTarget, body),
            body,
            unique_id(call.request_id, call.request_id if call.chosen else ""),
            context,
        )
        if result.status >= 400:
            await context.abort(status_of_http(result.status), result.phrase or f"status {result.status}")
        if result.headers:
            await context.send_initial_metadata(metadata_of(result.headers))
        return result.body

    async def model_stream_infer(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Answer a stream of requests as Triton does, each before the next one is read; errors are messages.

        What a handler sets as response headers has no place in a stream.
        """
        async for body in requests:
            target = pb.ModelInferTarget()
            try:
                target = parse(pb.ModelInferTarget, body)
                # A stream has many requests and one id.
                request_id = unique_id(current_call().request_id, "stream")
                result = await self._infer(target, body, request_id, context)
            except PredictorError as error:
                current_call().reason = error.message
                await context.write(_stream_failure(target, error.message))
                continue
            if result.status >= 400:
                await context.write(_stream_failure(target, result.phrase or f"status {result.status}"))
            else:
                await context.write(_serialise(pb.ModelStreamInferBytes(infer_response=result.body)))

    async def _infer(
        self, target: pb.ModelInferTarget, body: bytes, request_id: str, context: Context
    ) -> InferenceResult:
        """Run the model that `target`, the front of `body`, means."""
        model = self._registry.get(target.model_name, target.model_version or None)
        headers = [
            (name, value if isinstance(value, str) else value.decode("latin-1"))
            for name, value in context.invocation_metadata() or ()
        ]
        return await model.infer(
            InferenceRequest(
                request_id=request_id,
                verb=_verb(target),
                envelope=Envelope.V2,
                headers=headers,
                content_type=GRPC_TYPE,
                body=body,
                model=(model.name, model.version),
            )
        )


def _stream_failure(target: pb.ModelInferTarget, message: str) -> bytes:
    """Return an error as a message, with what tells a client which of its requests it is about."""
    answer = pb.ModelStreamInferResponse(error_message=message)
    answer.infer_response.model_name = target.model_name
    answer.infer_response.id = target.id
    return _serialise(answer)


def _verb(target: pb.ModelInferTarget) -> Verb:
    """Return what a request asks for: V2 has no method of its own for explanations over gRPC."""
    explain = target.parameters.get(EXPLAIN)
    asks = explain is not None and (
        explain.WhichOneof("parameter_choice") != "bool_param" or explain.bool_param
    )
    return Verb.EXPLAIN if asks else Verb.PREDICT


def _parsed(request_type: type[Message], method: Callable[[Any], Awaitable[Any]]) -> Method:
    async def parsed(body: bytes, context: Context) -> Any:
        return await method(parse(request_type, body))

    return parsed


def _status(error: PredictorError) -> tuple[grpc.StatusCode, str]:
    return status_of(error), error.message


def _serialise(message: Message) -> bytes:
    serialised: bytes = message.SerializeToString()
    return serialised
