"""`inference.GRPCInferenceService`: V2 over gRPC.

A request to infer is passed on to the worker as the bytes it came in, and the worker's answer sent as
the bytes it is: tensors are neither parsed nor written here.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from predictor import __version__
from predictor.errors import InvalidInput, ModelNotFound, PredictorError, Unavailable
from predictor.ipc.messages import Envelope, InferenceRequest, Verb
from predictor.oip import inference_pb2 as pb
from predictor.oip.datatypes import GRPC_TYPE
from predictor.protocols import inference, kserve
from predictor.protocols.grpc.status import status_of, status_of_http
from predictor.protocols.requests import unique_id
from predictor.serving.manager import ModelManager
from predictor.serving.registry import Registry

logger = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

Context = Any  # grpc.aio.ServicerContext: grpcio ships no types
Method = Callable[[Any, Context], Awaitable[Any]]

_MAX_REQUEST_ID = 128


class InferenceService:
    """Answers the methods of the service from a registry."""

    def __init__(self, registry: Registry, manager: ModelManager | None = None) -> None:
        """Serve the models of `registry`; clients may load and unload them where there is a `manager`."""
        self._registry = registry
        self._manager = manager

    def handler(self) -> Any:
        """Return what a grpc.aio server is given."""
        methods: dict[str, Any] = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(_guarded(self.model_infer)),
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
                _guarded(_parsed(request_type, method)), response_serializer=_serialise
            )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

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
        await self._manager.load(request.model_name)
        return pb.RepositoryModelLoadResponse(model_name=request.model_name, isLoaded=True)

    async def repository_unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Stop serving every version of a model, once it is idle."""
        if self._manager is None:
            raise kserve.ControlDisabled("unload")
        await self._manager.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse(model_name=request.model_name, isUnloaded=True)

    async def model_infer(self, body: bytes, context: Context) -> bytes:
        """Answer a serialised ModelInferRequest with a serialised ModelInferResponse."""
        target: pb.ModelInferTarget = _parse(pb.ModelInferTarget, body)
        model = self._registry.get(target.model_name, target.model_version or None)
        headers = [
            (name, value if isinstance(value, str) else value.decode("latin-1"))
            for name, value in context.invocation_metadata() or ()
        ]
        result = await model.infer(
            InferenceRequest(
                request_id=_request_id(headers),
                verb=Verb.PREDICT,
                envelope=Envelope.V2,
                headers=headers,
                content_type=GRPC_TYPE,
                body=body,
                model=(model.name, model.version),
            )
        )
        if result.status >= 400:
            await context.abort(status_of_http(result.status), result.phrase or f"status {result.status}")
        if result.headers:
            await context.send_initial_metadata(_metadata(result.headers))
        return result.body


def _parsed(request_type: type[Message], method: Callable[[Any], Awaitable[Any]]) -> Method:
    async def parsed(body: bytes, context: Context) -> Any:
        return await method(_parse(request_type, body))

    return parsed


def _parse(request_type: type[Any], body: bytes) -> Any:
    """Parse a message here, where a malformed one is the client's mistake and not an internal error."""
    try:
        return request_type.FromString(body)
    except DecodeError as error:
        raise InvalidInput(f"The message is not a {request_type.DESCRIPTOR.name}") from error


def _guarded(method: Method) -> Method:
    """Turn our errors into statuses, and any other into an INTERNAL without details."""

    async def guarded(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except PredictorError as error:
            if isinstance(error, Unavailable):
                context.set_trailing_metadata((("retry-after", str(error.retry_after)),))
            await context.abort(status_of(error), error.message)
        except grpc.aio.AbortError:
            raise
        except Exception:
            logger.exception("a gRPC request failed")
            await context.abort(grpc.StatusCode.INTERNAL, "Internal server error")

    return guarded


def _serialise(message: Message) -> bytes:
    serialised: bytes = message.SerializeToString()
    return serialised


def _request_id(headers: list[tuple[str, str]]) -> str:
    """Return the client's x-request-id if it sent a usable one, else a new one."""
    for name, value in headers:
        if name == "x-request-id" and 0 < len(value) <= _MAX_REQUEST_ID and value.isascii():
            return unique_id(value, value)
    return str(uuid.uuid4())


def _metadata(headers: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return a handler's response headers as metadata: lower case, and printable ASCII only."""
    return tuple(
        (name.lower(), value)
        for name, value in headers
        if value.isascii() and value.isprintable() and _is_metadata_key(name.lower())
    )


def _is_metadata_key(name: str) -> bool:
    reserved = name.startswith("grpc-") or name.endswith("-bin") or name in ("content-type", "content-length")
    return bool(name) and not reserved and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
