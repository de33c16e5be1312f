"""The gRPC server: KServe's V2 service, health and reflection, on one port."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from predictor.oip import inference_pb2
from predictor.protocols.grpc.credentials import server_credentials
from predictor.protocols.grpc.inference import SERVICE, InferenceService
from predictor.protocols.grpc.observed import ObservedHandler
from predictor.protocols.grpc.tokens import TokenInterceptor
from predictor.serving.manager import ModelManager
from predictor.serving.registry import Registry
from predictor.telemetry.requests import RequestMeter
from predictor.trust.certificates import Certificates
from predictor.trust.guard import Guard

logger = logging.getLogger(__name__)

# Seconds between two looks at readiness for those who watch the health service.
_HEALTH_PERIOD = 0.5
# What a message has beside the tensor whose size the operator limits.
_OVERHEAD = 64 * 1024


class GrpcError(Exception):
    """The server cannot be started; the text says why."""


class GrpcServer:
    """A gRPC server on the running loop.

    Attributes:
        port: where it listens, once started.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        registry: Registry,
        host: str,
        port: int,
        *,
        max_request_size: int,
        max_response_size: int,
        certificates: Certificates | None = None,
        guard: Guard | None = None,
        services: Sequence[tuple[str, Any]] = (),
        meter: RequestMeter | None = None,
        manager: ModelManager | None = None,
    ) -> None:
        """Prepare to serve the models of `registry`; nothing listens before `start`.

        Args:
            host: address to listen on; 0.0.0.0 for all.
            port: TCP port; 0 picks a free one.
            max_request_size: bytes of a message from a client.
            max_response_size: bytes of an answer.
            certificates: for TLS; None speaks plain HTTP/2 (h2c).
            guard: knows the tokens; None asks for none.
            services: further services: full name, and generic handler.
            meter: what counts calls, None for nothing; those of health and reflection are not counted.
            manager: loads and unloads models for clients; None where they may not ask for that.
        """
        self._registry = registry
        self._host = host
        self.port = port
        self._limits = (max_request_size, max_response_size)
        self._certificates = certificates
        self._guard = guard
        self._services = services
        self._meter = meter
        self._manager = manager
        self._server: Any = None
        self._health: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            GrpcError: the port is taken.
        """
        receive, send = self._limits
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", receive + _OVERHEAD),
                ("grpc.max_send_message_length", send + _OVERHEAD),
                ("grpc.so_reuseport", 0),
            ],
            interceptors=[] if self._guard is None else [TokenInterceptor(self._guard)],
        )
        names = [SERVICE, *(name for name, _ in self._services)]
        v2 = (SERVICE, InferenceService(self._registry, self._manager).handler())
        self._server.add_generic_rpc_handlers(
            tuple(self._observed(name, handler) for name, handler in (v2, *self._services))
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names.append(health.SERVICE_NAME)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server, _pool())
        self.port = self._listen()
        await self._server.start()
        self._watcher = asyncio.create_task(self._watch(("", *names)))

    def close(self, grace: float) -> None:
        """Refuse new requests from now on, and cut those that take more than `grace` seconds."""
        self._closing = asyncio.ensure_future(self.stop(grace))

    async def stop(self, grace: float) -> None:
        """Refuse new requests and wait for the accepted ones, at most `grace` seconds.

        Clients that watch the health service keep their requests open for ever, so this usually takes
        all of the time; a later call with less of it ends an earlier one.
        """
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None
            await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(grace)

    def _observed(self, name: str, handler: Any) -> Any:
        if self._meter is None:
            return handler
        protocol = "grpc-v2" if name.endswith("GRPCInferenceService") else "grpc-torchserve"
        return ObservedHandler(handler, protocol, self._meter)

    def _listen(self) -> int:
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"{host}:{self.port}"
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, server_credentials(self._certificates))
        except RuntimeError as error:
            raise GrpcError(f"cannot listen for gRPC on {address}: {error}") from error
        return int(port)

    async def _watch(self, names: Sequence[str]) -> None:
        """Keep what the health service says in line with readiness."""
        known: bool | None = None
        while True:
            ready = self._registry.ready
            if ready is not known:
                known = ready
                for name in names:
                    await self._health.set(name, _serving(ready))
            await asyncio.sleep(_HEALTH_PERIOD)


def _serving(ready: bool) -> Any:
    status = health_pb2.HealthCheckResponse
    return status.SERVING if ready else status.NOT_SERVING


def _pool() -> Any:
    """Return a pool of the services' descriptors, for reflection."""
    pool = DescriptorPool()
    for module in (inference_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return pool
