"""The ASGI application in front: finds the protocol of a path, reads the body, answers, logs.

It stands before KServe's own FastAPI app, which answers the paths that no protocol of ours claims.
Under uvicorn with our `Connection` a response is written in one piece; under any other ASGI server
(a test client, say) the same code sends ASGI messages.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from predictor.errors import (
    InvalidToken,
    MethodNotAllowed,
    ModelNotFound,
    PayloadTooLarge,
    PredictorError,
    RequestTimeout,
    UnsupportedCoding,
)
from predictor.http.body import Take, take_anonymous
from predictor.http.coding import CodedProtocol, compress, inflate
from predictor.http.connection import CYCLE_KEY, HEADERS_KEY, Cycle, common_headers
from predictor.http.gate import Gate
from predictor.http.messages import HttpRequest, HttpResponse, new_request_id
from predictor.telemetry.logging import AccessEntry, AccessLog
from predictor.telemetry.record import CURRENT, RequestRecord
from predictor.telemetry.requests import RequestMeter

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

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
_MAX_REQUEST_ID = 128
# Seconds without a byte of a body that is still to come.
_BODY_SECONDS = 60.0
_PROBES = frozenset({"", "/ping", "/health", "/v2/health/live", "/v2/health/ready", "/metrics"})
# RFC 9110 (11.6.1): goes with every 401.
_CHALLENGE = ("WWW-Authenticate", "Bearer")
# What the log says of a request whose client left before its answer, as nginx does.
_CLIENT_CLOSED_REQUEST = 499


class HttpProtocol(Protocol):
    """A wire format over HTTP: one instance answers all its paths."""

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request.

        Raises:
            PredictorError: rendered by `render_error`.
        """

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Put an error into this protocol's form."""


FindProtocol = Callable[[str, str], "HttpProtocol | None"]


class Application:
    """See the module.

    Attributes:
        closing: ask every client to come back on a new connection, because this server will stop.
    """

    def __init__(
        self,
        find: FindProtocol,
        fallback: AsgiApp,
        max_request_size: int,
        access_log: AccessLog | None,
        meter: RequestMeter | None = None,
        gate: Gate | None = None,
        compress_from: int = 0,
        take: Take = take_anonymous,
    ) -> None:
        """Answer with the protocol that `find(method, path)` names, else with `fallback`.

        Args:
            max_request_size: bytes of a body; more is refused with 413.
            access_log: where requests are noted, None for nowhere.
            meter: what counts them, None for nothing.
            gate: which requests may pass; None lets all of them pass.
            compress_from: bytes from which on answers are compressed for clients that accept it, 0 for never.
            take: finds memory for large bodies.
        """
        self._take = take
        self._compress_from = compress_from
        self._gate = gate or Gate()
        self._find = find
        self._fallback = fallback
        self._max_request_size = max_request_size
        self._access_log = access_log
        self._meter = meter
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._fallback(scope, receive, send)
            return
        record = RequestRecord()
        CURRENT.set(record)
        request = _request(scope)
        exchange = _Exchange(scope, receive, send, self._take)
        status, reason = _CLIENT_CLOSED_REQUEST, ""
        try:
            response = await self._respond(request, exchange, record)
            if response is None:
                status = await self._delegate(scope, receive, send, self._gate.headers(request))
            else:
                status, reason = response.status, response.reason
                response.close = response.close or self.closing
                await exchange.send(response, request, self._gate.headers(request))
        except asyncio.CancelledError:
            if not exchange.disconnected:
                raise
        finally:
            if self._meter is not None:
                self._meter.finished(record, str(status), status)
            if self._access_log is not None and not _is_quiet(request, status):
                client = scope.get("client") or ("", 0)
                self._access_log.add(
                    AccessEntry(
                        method=request.method,
                        path=request.path or "/",
                        status=status,
                        seconds=time.monotonic() - record.started,
                        request_id=request.request_id,
                        client=client[0],
                        reason=reason,
                    )
                )

    async def _respond(
        self, request: HttpRequest, exchange: _Exchange, record: RequestRecord
    ) -> HttpResponse | None:
        """Return the answer, None where KServe's app is to give it."""
        response = self._gate.preflight(request)
        if response is not None:
            return response
        protocol = self._find(request.method, request.path)
        record.protocol = getattr(protocol, "label", "other")
        if protocol is not None:
            response = await self._answer(protocol, request, exchange)
            if self._compress_from and isinstance(protocol, CodedProtocol):
                await compress(request, response, self._compress_from)
            return response
        try:
            self._gate.admit(request)
        except InvalidToken as error:
            return HttpResponse(error.status, headers=[_CHALLENGE], close=True, reason=error.message)
        return None

    def note_invalid(self) -> None:
        """Count something that was not HTTP, which the connection has answered with 400."""
        if self._meter is not None:
            self._meter.finished(RequestRecord(), "400", 400)

    async def _answer(
        self, protocol: HttpProtocol, request: HttpRequest, exchange: _Exchange
    ) -> HttpResponse:
        try:
            if request.method == "CONNECT":
                raise MethodNotAllowed
            self._gate.admit(request)
            request.body = await exchange.read_body(self._max_request_size)
            if request.body and request.header("content-encoding"):
                await self._inflate(protocol, request)
            return await protocol.handle(request)
        except PredictorError as error:
            failed = error
        except Exception:
            logger.exception("request %s: %s %s", request.request_id, request.method, request.path)
            failed = PredictorError("Internal server error")
        if isinstance(failed, ModelNotFound) and not request.trusted:
            failed = ModelNotFound(failed.model)
        response = protocol.render_error(failed)
        response.reason = failed.message
        if isinstance(failed, UnsupportedCoding):
            response.headers.append(("Accept-Encoding", ", ".join(failed.known)))
        if isinstance(failed, InvalidToken):
            # A body that nobody wants is not worth a kept connection.
            response.close = response.close or not exchange.complete
            if response.status == failed.status:
                response.headers.append(_CHALLENGE)
        return response

    async def _inflate(self, protocol: HttpProtocol, request: HttpRequest) -> None:
        if isinstance(protocol, CodedProtocol) and protocol.inflates(request):
            await inflate(request, self._max_request_size)

    async def _delegate(
        self, scope: Scope, receive: Receive, send: Send, headers: list[tuple[str, str]]
    ) -> int:
        """Let KServe's app answer; returns its status."""
        seen = {"status": 500}

        async def note_status(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                message["headers"] = [*message.get("headers", ()), *_encoded(headers)]
            await send(message)

        await self._fallback(scope, _limited(receive, self._max_request_size), note_status)
        return seen["status"]


class _Exchange:
    """Reading and writing one request, over the connection itself where it is ours."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, take: Take) -> None:
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
        start = {"type": "http.response.start", "status": response.status, "headers": _encoded(headers)}
        await self._send(start)
        more = response.stream is not None
        await self._send({"type": "http.response.body", "body": response.body, "more_body": more})
        if response.stream is not None:
            async for part in response.stream:
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_quiet(request: HttpRequest, status: int) -> bool:
    """Return whether this is a probe that found what it hoped for, several times a minute."""
    return status == 200 and request.method in ("GET", "HEAD") and request.path in _PROBES


def _request(scope: Scope) -> HttpRequest:
    headers = scope.get(HEADERS_KEY)
    if headers is None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    request_id = ""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= _MAX_REQUEST_ID and value.isascii():
            request_id = value.decode("ascii")
    query = scope.get("query_string", b"").decode("latin-1")
    return HttpRequest(scope["method"], scope["path"], query, headers, request_id or new_request_id())


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


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI wants them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _limited(receive: Receive, limit: int) -> Receive:
    """Wrap `receive` for KServe's app, which knows no limit: a longer body ends as a disconnect."""
    size = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        return message if size <= limit else {"type": "http.disconnect"}

    return limited
