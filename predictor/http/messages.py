"""Requests and responses as the protocol modules see them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator, Sequence
from urllib.parse import parse_qsl

# Its own: whoever seeds the common one would make every id twice.
_RANDOM = random.Random()  # noqa: S311 - ids, not secrets
_VERSION_MASK, _VERSION = 0xF << 76, 0x4 << 76
_VARIANT_MASK, _VARIANT = 0x3 << 62, 0x2 << 62

Headers = Sequence[tuple[str, str]]


def new_request_id() -> str:
    """Return a random UUID, version 4; `uuid` takes ten times as long over one."""
    bits = _RANDOM.getrandbits(128) & ~(_VERSION_MASK | _VARIANT_MASK) | _VERSION | _VARIANT
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class HttpRequest:
    """One request, its body complete.

    Attributes:
        method: upper case.
        path: percent-decoded, without a trailing slash ("" for the root).
        segments: the path between its slashes.
        query_string: as it came.
        headers: in order, with the client's spelling.
        body: the bytes after the head; a view of them where they are many.
        request_id: the client's x-request-id if it sent a usable one, else made here.
        trailing_slash: whether `path` had one, which matters to relative links.
        trusted: whether it may be told about models: it brought a token, or none is asked for.
    """

    __slots__ = (
        "_lower",
        "body",
        "headers",
        "method",
        "path",
        "query_string",
        "request_id",
        "segments",
        "trailing_slash",
        "trusted",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query_string: str,
        headers: list[tuple[str, str]],
        request_id: str,
    ) -> None:
        """Describe a request; `body` is set once it has been read."""
        self.method = method
        self.path = path.rstrip("/")
        self.trailing_slash = path != self.path
        self.segments = self.path.split("/")[1:]
        self.query_string = query_string
        self.headers = headers
        self.request_id = request_id
        self.body: bytes | memoryview = b""
        self.trusted = True
        self._lower: dict[str, str] | None = None

    def header(self, name: str) -> str:
        """Return the last value of header `name` (lower case), "" when there is none."""
        if self._lower is None:
            self._lower = {key.lower(): value for key, value in self.headers}
        return self._lower.get(name, "")

    def replace_body(self, body: bytes) -> None:
        """Put the plain body in the place of a coded one, without the headers that told of that."""
        told = ("content-encoding", "content-length")
        self.headers = [(name, value) for name, value in self.headers if name.lower() not in told]
        self._lower = None
        self.body = body

    def query(self) -> list[tuple[str, str]]:
        """Return the query parameters, decoded, in order."""
        return parse_qsl(self.query_string, keep_blank_values=True) if self.query_string else []


@dataclasses.dataclass
class HttpResponse:
    """What goes back.

    Attributes:
        status: HTTP status.
        body: the bytes, or the first part of them when `stream` follows.
        headers: those the protocol sets, in order; the connection adds its own.
        phrase: reason phrase, None for the standard one.
        stream: further parts, sent as HTTP chunks.
        close: end the connection afterwards.
        reason: what the log says of an error.
        bare: send no header but content-length (TorchServe's 413).
        cache_control: what caches may do with it; "" for nothing at all, which suits all but static files.
    """

    status: int = 200
    body: bytes = b""
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    phrase: str | None = None
    stream: AsyncIterator[bytes] | None = None
    close: bool = False
    reason: str = ""
    bare: bool = False
    cache_control: str = ""


def json_response(body: bytes, status: int = 200) -> HttpResponse:
    """Return a JSON response."""
    return HttpResponse(status, body, [("content-type", "application/json")])
