"""Cross-origin requests: which pages of other sites a browser lets talk to this server.

TorchServe's settings put three headers on every response. Two things are added: several origins may be
named, of which the asking one is answered, and a browser's question before a request (a preflight, which
never carries a token) is answered here instead of reaching a model.
"""

from __future__ import annotations

from collections.abc import Sequence

_ANY = "*"
# Seconds for which a browser remembers the answer to a preflight; Chromium caps it at two hours.
_MAX_AGE = "600"


class Cors:
    """The configured headers."""

    def __init__(self, origins: str, methods: str = "", headers: str = "") -> None:
        """Allow what is named; each is a list by commas, `*` for all, "" for nothing said.

        Args:
            origins: as browsers send them, `https://app.example.com`.
            methods: beside GET, HEAD and POST, which need no permission.
            headers: beside those that need no permission; `*` does not stand for Authorization.
        """
        self._origins = [part.strip() for part in origins.split(",") if part.strip()]
        self._methods = methods.strip()
        self._headers = headers.strip()

    def response_headers(self, origin: str) -> list[tuple[str, str]]:
        """Return what goes with every response to a request from `origin` ("" for none)."""
        result = self._origin_headers(origin)
        if self._methods:
            result.append(("access-control-allow-methods", self._methods))
        if self._headers:
            result.append(("access-control-allow-headers", self._headers))
        return result

    def preflight_headers(self) -> list[tuple[str, str]]:
        """Return what goes with the answer to a preflight besides."""
        return [("access-control-max-age", _MAX_AGE)]

    def _origin_headers(self, origin: str) -> list[tuple[str, str]]:
        if _ANY in self._origins:
            return [("access-control-allow-origin", _ANY)]
        if len(self._origins) == 1:
            return [("access-control-allow-origin", self._origins[0])]
        # Caches must not show one site the answer that another was allowed to see.
        vary = [("vary", "Origin")]
        if origin in self._origins:
            return [("access-control-allow-origin", origin), *vary]
        return vary


def make_cors(origins: str, methods: str, headers: str) -> Cors | None:
    """Return the headers to send, None where nothing is configured."""
    return Cors(origins, methods, headers) if origins or methods or headers else None


def is_preflight(method: str, headers: Sequence[tuple[str, str]]) -> bool:
    """Return whether a browser asks if it may send a request of another kind."""
    if method != "OPTIONS":
        return False
    names = {name.lower() for name, _ in headers}
    return "origin" in names and "access-control-request-method" in names
