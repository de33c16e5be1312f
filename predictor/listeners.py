"""The HTTP sockets of the server: one for everything, and one each for management and metrics where asked.

Addresses that mean the same socket share it: the listener then has several roles. Sockets are bound
before any model is loaded, so that a port in use is reported at once. What a listener answers is its
application's business; when it starts, drains and stops is the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import errno
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import uvicorn

from predictor.addresses import SPARE_PORT, Address, parse_address
from predictor.http.application import Application
from predictor.http.receiver import Receiver
from predictor.settings import Settings

_BACKLOG = 2048
_KSERVE_GRPC_PORT = 8081


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
    def port(self) -> int:
        """The port that it is bound to, also where the settings let the system choose; 0 for a file."""
        return int(self.socket.getsockname()[1]) if self.address.unix is None else 0

    @property
    def url(self) -> str:
        """Where a client on this machine finds it: an http:// or https:// URL, or unix:/path."""
        return str(dataclasses.replace(self.address, port=self.port).reachable)


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
    main = Address(settings.host, settings.port, settings.tls)
    if settings.unix_socket is not None:
        main = Address(unix=settings.unix_socket)
    planned = {Role.MAIN: main}
    for role, name in _SETTINGS.items():
        text = getattr(settings, name)
        if text:
            planned[role] = parse_address(text, name)
    return planned


def needs_tls(settings: Settings) -> bool:
    """Return whether anything listens with TLS, gRPC included."""
    return settings.grpc_tls or any(address.tls for address in plan(settings).values())


def managed_over_http(settings: Settings) -> str:
    """Return the address on which other machines may change models or workers, "" for none."""
    planned = plan(settings)
    # The main port has the API only where it may change models, a port of its own always: it scales.
    roles = (Role.MAIN, Role.MANAGEMENT) if settings.enable_model_api else (Role.MANAGEMENT,)
    addresses = (planned[role] for role in roles if role in planned)
    return next((str(address) for address in addresses if not address.is_local), "")


def listen(settings: Settings) -> list[Listener]:
    """Bind every socket, the main one first.

    Raises:
        ListenError: one cannot be bound; the others are closed again.
    """
    found: list[tuple[Address, set[Role]]] = []
    for role, address in plan(settings).items():
        same = next((entry for entry in found if entry[0].is_same_socket(address)), None)
        if same is None:
            found.append((address, {role}))
        elif same[0].tls != address.tls:
            raise ListenError(
                f"{same[0]} and {address} ({_SETTINGS[role]}) are one port, with TLS or without"
            )
        else:
            same[1].add(role)
    listeners: list[Listener] = []
    try:
        for address, roles in found:
            listeners.append(Listener(frozenset(roles), address, _bind(address, roles)))
    except ListenError:
        close(listeners)
        raise
    return listeners


def close(listeners: list[Listener]) -> None:
    """Close every socket, and remove those that are files."""
    for listener in listeners:
        listener.socket.close()
        if listener.address.unix is not None:
            listener.address.unix.unlink(missing_ok=True)


def http_server(
    settings: Settings, application: Application, listener: Listener, tls: ssl.SSLContext | None = None
) -> HttpServer:
    """Return the server of a listener other than the main one, whose configuration is KServe's."""
    config = uvicorn.Config(
        application,
        log_config=None,
        timeout_graceful_shutdown=int(settings.grace_period),
        timeout_keep_alive=settings.keep_alive,
    )
    configure(config, application, listener, tls)
    return HttpServer(config, listener)


def configure(
    config: uvicorn.Config, application: Application, listener: Listener, tls: ssl.SSLContext | None = None
) -> None:
    """Make uvicorn serve `application` over our connection class, and add nothing of its own.

    Args:
        tls: for a listener whose address asks for TLS.
    """
    config.app = application
    # Any factory of protocols will do, whatever uvicorn's annotation says.
    config.http = cast("type[asyncio.Protocol]", Receiver)
    config.lifespan = "off"
    config.access_log = False
    config.date_header = False
    config.proxy_headers = False
    if listener.address.tls and tls is not None:
        config.ssl_context_factory = lambda config, default: tls


def grpc_port(settings: Settings) -> int:
    """Return KServe's gRPC port: the one given, else 8081, else 9000 where an HTTP listener has 8081."""
    if "grpc_port" in settings.model_fields_set or settings.grpc_port != _KSERVE_GRPC_PORT:
        return settings.grpc_port
    taken = any(address.port == settings.grpc_port for address in plan(settings).values())
    return SPARE_PORT if taken else settings.grpc_port


def _bind(address: Address, roles: set[Role]) -> socket.socket:
    if address.unix is not None:
        return _bind_file(address.unix)
    what = " and ".join(_SETTINGS[role] for role in Role if role in roles and role in _SETTINGS)
    where = f"{address.host}:{address.port}" + (f" ({what})" if what else "")
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        # The address, which `create_server` puts behind the reason, is told already.
        reason = (error.strerror or str(error)).partition(" (while attempting")[0]
        other = "; --port chooses another" if error.errno == errno.EADDRINUSE and Role.MAIN in roles else ""
        raise ListenError(f"cannot listen on {where}: {reason}{other}") from error


def _bind_file(path: Path) -> socket.socket:
    """Listen on a Unix socket; a file that a server left behind when it was killed is replaced.

    Raises:
        ListenError: it cannot be had; something else is there, or another server listens on it.
    """
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()
        found.bind(str(path))
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise ListenError(f"cannot listen on unix:{path}: {error.strerror or error}") from error
    return found


def _answers(path: Path) -> bool:
    """Return whether somebody listens on a socket file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True
