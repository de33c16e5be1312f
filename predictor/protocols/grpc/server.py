"""A gRPC server: services, with health and reflection, on one port."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from predictor.protocols.grpc.calls import CallRecorder, Observer
from predictor.protocols.grpc.credentials import server_credentials
from predictor.protocols.grpc.services import Service
from predictor.serving.registry import Registry
from predictor.torchserve.protos.pool import pool_of_files
from predictor.trust.certificates import Certificates

logger = logging.getLogger(__name__)

# Seconds between two looks at readiness for those who watch the health service.
_HEALTH_PERIOD = 0.5
# What a message has beside the tensor whose size the operator limits.
_OVERHEAD = 64 * 1024


class GrpcError(Exception):
    """The server cannot be started; the text says why."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        max_request_size: bytes of a message from a client.
        max_response_size: bytes of an answer.
        connection_age_ms: milliseconds after which a client is told to connect anew; 0 for never.
        connection_grace_ms: milliseconds that the calls of such a connection may still take; 0 for no end.
    """

    max_request_size: int
    max_response_size: int
    connection_age_ms: int = 0
    connection_grace_ms: int = 0

    def options(self) -> list[tuple[str, int]]:
        """Return them as gRPC has them."""
        options = [
            ("grpc.max_receive_message_length", self.max_request_size + _OVERHEAD),
            ("grpc.max_send_message_length", self.max_response_size + _OVERHEAD),
            ("grpc.so_reuseport", 0),
        ]
        if self.connection_age_ms:
            options.append(("grpc.max_connection_age_ms", self.connection_age_ms))
        if self.connection_grace_ms:
            options.append(("grpc.max_connection_age_grace_ms", self.connection_grace_ms))
        return options


class GrpcServer:
    """A gRPC server on the running loop.

    Attributes:
        port: where it listens, once started.
    """

    def __init__(
        self,
        registry: Registry,
        host: str,
        port: int,
        services: Sequence[Service],
        *,
        limits: Limits,
        certificates: Certificates | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        observers: Sequence[Observer] = (),
    ) -> None:
        """Prepare to answer `services`; nothing listens before `start`.

        Args:
            registry: whose readiness the health service tells.
            host: address to listen on; 0.0.0.0 for all.
            port: TCP port; 0 picks a free one.
            services: what is answered, beside health and reflection.
            limits: of messages and connections.
            certificates: for TLS; None speaks plain HTTP/2 (h2c).
            interceptors: see every call before the services do, and may refuse it.
            observers: are told of every call once it has ended, refused ones included.
        """
        self._registry = registry
        self._host = host
        self.port = port
        self._services = services
        self._limits = limits
        self._certificates = certificates
        self._interceptors = (CallRecorder(observers), *interceptors)
        self._server: Any = None
        self._health: Any = None
        self._watcher: asyncio.Task[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            GrpcError: the port is taken.
        """
        self._server = grpc.aio.server(interceptors=self._interceptors, options=self._limits.options())
        self._server.add_generic_rpc_handlers(tuple(service.handler for service in self._services))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [*(service.name for service in self._services), health.SERVICE_NAME]
        files = [service.file for service in self._services]
        pool = pool_of_files([*files, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR])
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), self._server, pool)
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
