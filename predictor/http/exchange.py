"""One request read and its answer written: over our own connection, or in ASGI's messages."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from predictor.errors import PayloadTooLarge, PredictorError, RequestTimeout
from predictor.http.body import Take
from predictor.http.connection import CYCLE_KEY, Cycle, common_headers
from predictor.http.messages import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# Statuses whose responses never have a body; a client would read one as the next response.
_BODILESS = (204, 304)
_RESERVED = {
    "x-request-id",
    "pragma",
    "cache-control",
    "expires",
    "content-length",
    "connection",
    "transfer-encoding",
}
# RFC 9110 (5.6.2): what a header's name may be made of.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Seconds without a byte of a body that is still to come.
_BODY_SECONDS = 60.0


class Exchange:
    """Reading and writing one request, over the connection itself where it is ours."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, take: Take) -> None:
        """Speak for the running task, which ends when its client goes; `take` finds room for a body."""
        self._take = take
        self._receive = receive
        self._send = send
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._cycle: Cycle | None = scope.get(CYCLE_KEY)
        if self._cycle is not None:
            task = asyncio.current_task()
            self._cycle.on_disconnect = task.cancel if task is not None else None

    @property
    def disconnected(self) -> bool:
        """Whether the client has gone."""
        return self._cycle is not None and self._cycle.disconnected

    @property
    def complete(self) -> bool:
        """Whether no part of the body is still to come."""
        return self._cycle is None or not self._cycle.more_body

    @property
    def _speaks_1_0(self) -> bool:
        return self._cycle is not None and self._cycle.scope["http_version"] == "1.0"

    async def read_body(self, limit: int) -> bytes | memoryview:
        """Return the body; a declared length over the limit is refused before a byte of it is read.

        Raises:
            PayloadTooLarge: it is longer than `limit` bytes.
        """
        cycle = self._cycle
        if cycle is not None and cycle.body_is_here and len(cycle.body) <= limit:
            return bytes(cycle.body)
        length = self._declared_length()
        if length is not None and length > limit:
            raise PayloadTooLarge(f"The request has {length} bytes; max_request_size is {limit}")
        try:
            body = await self._read_parts(limit, length)
        except asyncio.TimeoutError:
            raise RequestTimeout(f"The body stopped for {_BODY_SECONDS:g} s") from None
        if body is None:
            raise PayloadTooLarge(f"The request has more than {limit} bytes (max_request_size)")
        return body

    def _declared_length(self) -> int | None:
        """Return the content-length, None where the body's end is not told by it."""
        length = None
        for name, value in self._headers:
            if name == b"content-length" and value.isdigit():
                length = int(value)
            elif name == b"transfer-encoding":
                return None
        return length

    async def _read_parts(self, limit: int, length: int | None) -> bytes | memoryview | None:
        """Return the body, None if it is longer than `limit` bytes."""
        if self._cycle is not None:
            return await self._cycle.whole_body(limit, _BODY_SECONDS, length, self._take)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await asyncio.wait_for(self._receive(), _BODY_SECONDS)
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def send(
        self, response: HttpResponse, request: HttpRequest, further: list[tuple[str, str]]
    ) -> None:
        """Send the answer to `request`, with `further` headers of the listener's."""
        headers = _response_headers(response, request, further)
        if response.stream is not None and self._speaks_1_0:
            headers = [(name, value) for name, value in headers if name != "transfer-encoding"]
            response.close = True
        if self._cycle is not None:
            await self._send_direct(self._cycle, response, headers, request.method == "HEAD")
        else:
            await self._send_asgi(response, headers)

    async def _send_direct(
        self, cycle: Cycle, response: HttpResponse, headers: list[tuple[str, str]], head_only: bool
    ) -> None:
        head = cycle.write_head(response.status, response.phrase, headers, response.close)
        bodiless = head_only or response.status in _BODILESS
        if response.stream is None:
            cycle.write(head if bodiless else head + response.body)
            # A client that sends requests ahead without reading answers must not pile them up here.
            await cycle.drain()
            cycle.finish()
            return
        if bodiless:
            cycle.write(head)
            async for _ in response.stream:
                await cycle.drain()
            cycle.finish()
            return
        # HTTP/1.0, which some proxies speak, knows no chunks: the end of the connection ends the answer.
        chunked = not self._speaks_1_0
        frame = _chunk if chunked else bytes
        cycle.write(head + frame(response.body))
        try:
            async for part in response.stream:
                cycle.write(frame(part))
                await cycle.drain()
        except PredictorError as error:
            # The status has gone out; a missing last chunk tells the client that this is not all.
            logger.warning("a streamed answer broke off: %s", error.message)
            cycle.keep_alive = False
        else:
            cycle.write(b"0\r\n\r\n" if chunked else b"")
        cycle.finish()

    async def _send_asgi(self, response: HttpResponse, headers: list[tuple[str, str]]) -> None:
        start = {"type": "http.response.start", "status": response.status, "headers": encoded(headers)}
        await self._send(start)
        more = response.stream is not None
        await self._send({"type": "http.response.body", "body": response.body, "more_body": more})
        if response.stream is not None:
            async for part in response.stream:
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _response_headers(
    response: HttpResponse, request: HttpRequest, further: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return the response's headers and those that go with every answer, which nobody can override."""
    if response.bare:
        return [*further, ("content-length", str(len(response.body)))]
    reserved = _RESERVED.union(name for name, _ in further if name != "vary") if further else _RESERVED
    headers = [
        (name, value)
        for name, value in response.headers
        if name.lower() not in reserved and _TOKEN.fullmatch(name)
    ]
    headers += further
    headers += common_headers(request.request_id, response.cache_control)
    if response.status in _BODILESS:
        # A 304 may tell the length of the body that it leaves out (RFC 9110, 8.6), a 204 must not.
        if response.status == 304 and response.body:
            headers.append(("content-length", str(len(response.body))))
        return headers
    if response.stream is not None:
        headers.append(("transfer-encoding", "chunked"))
    else:
        headers.append(("content-length", str(len(response.body))))
    return headers


def encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI wants them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
