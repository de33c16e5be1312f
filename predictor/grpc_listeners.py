"""The gRPC ports of the server: KServe's, and where asked TorchServe's two, with what each answers.

Ports that mean one socket share a server. What cannot be had is an error where somebody asked for it, and
a warning where it is only usual.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Sequence

from predictor.addresses import Address
from predictor.listeners import grpc_port
from predictor.protection import Protection
from predictor.protocols.grpc.calls import Observer
from predictor.protocols.grpc.server import GrpcError, GrpcServer, Limits
from predictor.protocols.grpc.services import Service, inference_services, management_service
from predictor.protocols.grpc.tokens import TokenInterceptor
from predictor.protocols.managing import ModelManagement
from predictor.serving.manager import ModelManager
from predictor.settings import USUAL_PORT, Settings

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class GrpcPort:
    """Where to listen, and for what.

    Attributes:
        setting: what chooses the port.
        asked: whether somebody wants this port, and nothing else will do.
        limits: of messages and connections.
        inference: whether the inference services are answered.
        management: whether the management service is.
    """

    setting: str
    host: str
    port: int
    asked: bool
    limits: Limits
    inference: bool = False
    management: bool = False

    @property
    def what(self) -> str:
        """Name it for people."""
        kinds = {"KServe V2 and TorchServe": self.inference, "TorchServe management": self.management}
        return ", ".join(name for name, is_answered in kinds.items() if is_answered)

    def merged(self, other: GrpcPort) -> GrpcPort:
        """Return one port that answers what both do; the limits of the first hold."""
        return dataclasses.replace(
            self,
            asked=self.asked or other.asked,
            inference=self.inference or other.inference,
            management=self.management or other.management,
        )


def plan(settings: Settings) -> list[GrpcPort]:
    """Return the ports that the settings ask for, KServe's first."""
    limits = Limits(
        settings.max_request_size,
        settings.max_response_size,
        settings.grpc_inference_max_connection_age_ms,
        settings.grpc_inference_max_connection_age_grace_ms,
    )
    management_limits = dataclasses.replace(
        limits,
        connection_age_ms=settings.grpc_management_max_connection_age_ms,
        connection_grace_ms=settings.grpc_management_max_connection_age_grace_ms,
    )
    inference_port, asked = _torchserves(settings.grpc_inference_port, 7070)
    management_port, management_asked = _torchserves(settings.grpc_management_port, 7071)
    found: list[GrpcPort] = []
    for port in (
        GrpcPort(
            "grpc_port",
            settings.host,
            grpc_port(settings),
            "grpc_port" in settings.model_fields_set or settings.grpc_tls,
            limits,
            inference=True,
            management=settings.enable_model_api,
        ),
        GrpcPort(
            "grpc_inference_port",
            settings.grpc_inference_address,
            inference_port,
            asked,
            limits,
            inference=True,
        ),
        GrpcPort(
            "grpc_management_port",
            settings.grpc_management_address,
            management_port,
            management_asked,
            management_limits,
            management=True,
        ),
    ):
        same = next((other for other in found if (other.host, other.port) == (port.host, port.port)), None)
        if same is not None:
            found[found.index(same)] = same.merged(port)
        elif port.port:
            found.append(port)
    return found


def managed_over_grpc(settings: Settings) -> str:
    """Return the address on which other machines may change models or workers, "" for none."""
    open_ports = (port for port in plan(settings) if port.management)
    addresses = (Address(port.host, port.port) for port in open_ports)
    remote = next((address for address in addresses if not address.is_local), None)
    return "" if remote is None else str(remote).replace("http:", "grpc:")


class GrpcListeners:
    """The servers of all ports.

    Attributes:
        servers: those that listen, with their ports.
    """

    def __init__(
        self,
        settings: Settings,
        manager: ModelManager,
        protection: Protection,
        observers: Sequence[Observer] = (),
    ) -> None:
        """Prepare to serve the models of `manager`; nothing listens before `start`.

        Args:
            settings: which ports, how, and whether clients may add and remove models.
            manager: the models.
            protection: certificates, and who may call.
            observers: are told of every call once it has ended.
        """
        self._settings = settings
        self._manager = manager
        self._protection = protection
        self._observers = observers
        self.servers: list[tuple[GrpcPort, GrpcServer]] = []

    async def start(self) -> None:
        """Listen on every port.

        Raises:
            GrpcError: one that was asked for cannot be had; the others are closed again.
        """
        if grpc_port(self._settings) not in (0, self._settings.grpc_port):
            logger.info(
                "gRPC is on port %d: HTTP has %d", grpc_port(self._settings), self._settings.grpc_port
            )
        try:
            for port in plan(self._settings):
                await self._open(port)
        except GrpcError:
            await self.stop(0)
            raise

    def close(self, grace: float) -> None:
        """Refuse new calls from now on, and cut those that take more than `grace` seconds."""
        for _, server in self.servers:
            server.close(grace)

    async def stop(self, grace: float) -> None:
        """Refuse new calls and wait for the accepted ones, at most `grace` seconds."""
        await asyncio.gather(*(server.stop(grace) for _, server in self.servers))

    def described(self) -> list[tuple[str, str]]:
        """Return host and port of each port that listens, and what it is for."""
        return [
            (str(Address(port.host, server.port).reachable).removeprefix("http://"), port.what)
            for port, server in self.servers
        ]

    async def _open(self, port: GrpcPort) -> None:
        guard = self._protection.guard
        may_change = self._settings.enable_model_api
        services: list[Service] = []
        if port.inference:
            services += inference_services(self._manager.registry, self._manager if may_change else None)
        if port.management:
            services.append(management_service(ModelManagement(self._manager, may_change)))
        server = GrpcServer(
            self._manager.registry,
            port.host,
            port.port,
            services,
            limits=port.limits,
            certificates=self._protection.certificates if self._settings.grpc_tls else None,
            interceptors=[] if guard is None else [TokenInterceptor(guard)],
            observers=self._observers,
        )
        try:
            await server.start()
        except GrpcError as error:
            if port.asked:
                raise GrpcError(f"{error} ({port.setting})") from error
            flag = port.setting.replace("_", "-")
            logger.warning("%s; serving without it (--%s chooses another port)", error, flag)
            return
        self.servers.append((port, server))


def _torchserves(port: int, usual: int) -> tuple[int, bool]:
    """Return the port that a setting means, and whether nothing else will do."""
    return (usual, False) if port == USUAL_PORT else (port, bool(port))
