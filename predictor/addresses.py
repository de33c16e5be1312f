"""Addresses in settings, as TorchServe writes them: where to listen, and which URLs models may have."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

_ADDRESS = re.compile(r"(https?)://(\[[^\]/]+\]|[^:/\s]+)(?::([0-9]+))?/?|unix:(/.+)", re.IGNORECASE)
_PORTS = {
    "inference_address": (80, 443),
    "management_address": (8081, 8444),
    "metrics_address": (8082, 8445),
}
_MAX_PORT = 65_535
SPARE_PORT = 9000
"""Where one of KServe's gRPC and TorchServe's management API goes, which both want 8081."""
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """Where to listen: host and port, or a Unix socket, and whether with TLS."""

    host: str = ""
    port: int = 0
    tls: bool = False
    unix: Path | None = None

    def __str__(self) -> str:
        """Return it as it is written."""
        if self.unix is not None:
            return f"unix:{self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    @property
    def reachable(self) -> Address:
        """Where a client on this machine connects to."""
        anywhere = self.host in ("0.0.0.0", "::", "")  # noqa: S104 - recognised, not bound
        return replace(self, host=_LOOPBACK) if anywhere and self.unix is None else self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect to it."""
        return self.unix is not None or self.host in ("localhost", "::1") or self.host.startswith("127.")

    def is_same_socket(self, other: Address) -> bool:
        """Say whether both mean one socket; port 0 picks a free port, and so never the same one."""
        if self.unix is not None or other.unix is not None:
            return self.unix == other.unix
        return bool(self.port) and (_host(self.host), self.port) == (_host(other.host), other.port)


def parse_address(text: str, key: str = "inference_address") -> Address:
    """Read `http://host:port`, `https://host:port` or `unix:/path`.

    `key` says which address it is: without a port, each has a usual one of its own.

    Raises:
        ValueError: it is none of them; the text says what is expected.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an address like http://0.0.0.0:8080, https://... or unix:/path")
    scheme, host, port, unix = match.groups()
    if unix is not None:
        return Address(unix=Path(unix))
    tls = scheme.lower() == "https"
    number = int(port) if port else _PORTS.get(key, _PORTS["inference_address"])[tls]
    if number > _MAX_PORT:
        raise ValueError(f"port {port} is above {_MAX_PORT}")
    return Address(host.strip("[]"), number, tls)


def parse_allowed_urls(text: str) -> tuple[re.Pattern[str], ...]:
    """Read regular expressions separated by commas.

    Raises:
        ValueError: one is not a regular expression.
    """
    try:
        return tuple(re.compile(part.strip(), re.IGNORECASE) for part in text.split(",") if part.strip())
    except re.error as error:
        raise ValueError(f"{error.pattern!r} is not a regular expression: {error}") from error


def _host(name: str) -> str:
    return _LOOPBACK if name == "localhost" else name
