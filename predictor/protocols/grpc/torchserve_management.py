"""`org.pytorch.serve.grpc.management.ManagementAPIsService`: TorchServe's management API over gRPC.

What is done and said is in `protocols.managing`, as over HTTP; a number that is 0 and a text that is
empty are parameters that the client does not give, which proto3 cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from predictor.errors import InvalidInput, PredictorError
from predictor.protocols.grpc.calls import Context, Method, guarded, parse
from predictor.protocols.grpc.status import torchserve_details, torchserve_status
from predictor.protocols.managing import ModelManagement, RegisterParameters
from predictor.protocols.pretty import pretty_text
from predictor.serving.errors import ModelControlOff
from predictor.torchserve.protos import management_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["ManagementAPIsService"].full_name


class ManagementService:
    """Answers the methods of the service."""

    def __init__(self, management: ModelManagement) -> None:
        """Offer what `management` does."""
        self._management = management

    def handler(self) -> Any:
        """Return what a grpc.aio server is given."""
        methods: dict[str, tuple[type[Any], Callable[[Any], Awaitable[str]]]] = {
            "RegisterModel": (pb.RegisterModelRequest, self.register_model),
            "UnregisterModel": (pb.UnregisterModelRequest, self.unregister_model),
            "ScaleWorker": (pb.ScaleWorkerRequest, self.scale_worker),
            "SetDefault": (pb.SetDefaultRequest, self.set_default),
            "ListModels": (pb.ListModelsRequest, self.list_models),
            "DescribeModel": (pb.DescribeModelRequest, self.describe_model),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(guarded(_answering(kind, method), _status))
                for name, (kind, method) in methods.items()
            },
        )

    async def register_model(self, request: pb.RegisterModelRequest) -> str:
        """Add a model, or a version of one."""
        answer = await self._management.register(
            RegisterParameters(
                url=request.url or None,
                model_name=request.model_name,
                handler=request.handler,
                runtime=request.runtime,
                batch_size=_given(request.batch_size),
                max_batch_delay=_given(request.max_batch_delay),
                initial_workers=_given(request.initial_workers),
                response_timeout=_given(request.response_timeout),
                startup_timeout=_given(request.startup_timeout),
                synchronous=request.synchronous,
                s3_sse_kms=request.s3_sse_kms,
            )
        )
        return answer.text

    async def unregister_model(self, request: pb.UnregisterModelRequest) -> str:
        """Remove a version of a model, the default one unless told otherwise, once it is idle."""
        if not request.model_name:
            self._management.require_control()
            # The text is TorchServe's, though it is the name that is missing.
            raise InvalidInput("Parameter url is required.")
        answer = await self._management.unregister(request.model_name, request.model_version or None)
        return answer.text

    async def scale_worker(self, request: pb.ScaleWorkerRequest) -> str:
        """Give a version of a model between `min_worker` (1) and `max_worker` (as many) workers."""
        answer = await self._management.scale(
            request.model_name,
            request.model_version or None,
            _given(request.min_worker),
            _given(request.max_worker),
            synchronous=request.synchronous,
        )
        return answer.text

    async def set_default(self, request: pb.SetDefaultRequest) -> str:
        """Let requests that name no version go to this one."""
        answer = await self._management.set_default(request.model_name, request.model_version)
        return answer.text

    async def list_models(self, request: pb.ListModelsRequest) -> str:
        """Return a page of the names of all models; 0 models unless `limit` says how many."""
        page = self._management.list_models(request.limit, request.next_page_token)
        return pretty_text(page).rstrip("\n")

    async def describe_model(self, request: pb.DescribeModelRequest) -> str:
        """Return what is known of a version of a model, of its default one, or of `all` of them."""
        found = await self._management.describe(
            request.model_name, request.model_version or None, customized=request.customized
        )
        return pretty_text(found).rstrip("\n")


def _answering(kind: type[Any], method: Callable[[Any], Awaitable[str]]) -> Method:
    """Return `method` between bytes."""

    async def answering(body: bytes, context: Context) -> bytes:
        response = pb.ManagementResponse(msg=await method(parse(kind, body)))
        serialised: bytes = response.SerializeToString()
        return serialised

    return answering


def _given(number: int) -> int | None:
    return number if number > 0 else None


def _status(error: PredictorError) -> tuple[grpc.StatusCode, str]:
    if isinstance(error, ModelControlOff):
        return grpc.StatusCode.PERMISSION_DENIED, torchserve_details(error.message, "ModelException")
    return torchserve_status(error)
