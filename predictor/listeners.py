"""The HTTP sockets of the server: one for everything, and one each for management and metrics where asked.

Addresses that mean the same socket share it: the listener then has several roles. Sockets are bound
before any model is loaded, so that a port in use is reported at once. What a listener answers is its
application's business; when it starts, drains and stops is the server's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import socket
from collections.abc import Iterator

import uvicorn

from predictor.addresses import Address, parse_address
from predictor.http.application import Application
from predictor.http.connection import Connection
from predictor.settings import Settings

_BACKLOG = 2048
_KSERVE_GRPC_PORT = 8081
_OTHER_GRPC_PORT = 9000


class ListenError(Exception):
    """A socket cannot be had; the text names its setting, its address and the reason."""


class Role(enum.Enum):
    """What is answered on a socket."""

    MAIN = "main"
    MANAGEMENT = "management"
    METRICS = "metrics"


_SETTINGS = {Role.MANAGEMENT: "management_address", Role.METRICS: "metrics_address"}


@dataclasses.dataclass(frozen=True)
class Listener:
    """A bound socket, and what is answered on it."""

    roles: frozenset[Role]
    address: Address
    socket: socket.socket

    @property
    def name(self) -> str:
        """The role that the log calls it by: the first one of `Role`."""
        return next(role.value for role in Role if role in self.roles)

    @property
    def host(self) -> str:
        """The address that it is bound to."""
        return str(self.socket.getsockname()[0])

    @property
    def port(self) -> int:
        """The port that it is bound to, also where the settings let the system choose."""
        return int(self.socket.getsockname()[1])


class HttpServer(uvicorn.Server):
    """Uvicorn's server, on a socket that is open already, leaving signals to its owner.

    Uvicorn raises the signal again after a graceful stop, which would make the exit status non-zero.
    """

    def __init__(self, config: uvicorn.Config, listener: Listener) -> None:
        """Serve `config.app` on `listener`."""
        super().__init__(config)
        self.listener = listener

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit` is set; `sockets` is uvicorn's, and not looked at."""
        await super().serve([self.listener.socket])

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def plan(settings: Settings) -> dict[Role, Address]:
    """Return where each role is to be answered; those that nobody asked for are left out."""
    planned = {Role.MAIN: Address(settings.host, settings.port)}
    for role, name in _SETTINGS.items():
        text = getattr(settings, name)
        if text:
            planned[role] = parse_address(text, name)
    return planned


def listen(settings: Settings) -> list[Listener]:
    """Bind every socket, the main one first.

    Raises:
        ListenError: one cannot be bound; the others are closed again.
    """
    found: list[tuple[Address, set[Role]]] = []
    for role, address in plan(settings).items():
        same = next((roles for other, roles in found if other.is_same_socket(address)), None)
        if same is not None:
            same.add(role)
        else:
            found.append((address, {role}))
    listeners: list[Listener] = []
    try:
        for address, roles in found:
            listeners.append(Listener(frozenset(roles), address, _bind(address, roles)))
    except ListenError:
        close(listeners)
        raise
    return listeners


def close(listeners: list[Listener]) -> None:
    """Close every socket."""
    for listener in listeners:
        listener.socket.close()


def http_server(settings: Settings, application: Application, listener: Listener) -> HttpServer:
    """Return the server of a listener other than the main one, whose configuration is KServe's."""
    config = uvicorn.Config(
        application,
        log_config=None,
        timeout_graceful_shutdown=int(settings.grace_period),
        timeout_keep_alive=settings.keep_alive,
    )
    configure(config, application)
    return HttpServer(config, listener)


def configure(config: uvicorn.Config, application: Application) -> None:
    """Make uvicorn serve `application` over our connection class, and add nothing of its own."""
    config.app = application
    config.http = Connection
    config.lifespan = "off"
    config.access_log = False
    config.date_header = False
    config.proxy_headers = False


def grpc_port(settings: Settings) -> int:
    """Return KServe's gRPC port: the one given, else 8081, else 9000 where an HTTP listener has 8081."""
    if "grpc_port" in settings.model_fields_set or settings.grpc_port != _KSERVE_GRPC_PORT:
        return settings.grpc_port
    taken = any(address.port == settings.grpc_port for address in plan(settings).values())
    return _OTHER_GRPC_PORT if taken else settings.grpc_port


def _bind(address: Address, roles: set[Role]) -> socket.socket:
    what = " and ".join(_SETTINGS[role] for role in Role if role in roles and role in _SETTINGS)
    where = f"{address.host}:{address.port}" + (f" ({what})" if what else "")
    if address.unix is not None:
        raise ListenError(f"cannot listen on {address} ({what}): only TCP ports are offered")
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ListenError(f"cannot listen on {where}: {error.strerror or error}") from error
