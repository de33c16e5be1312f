"""The ASGI application in front: finds the protocol of a path, reads the body, answers, logs.

It stands before KServe's own FastAPI app, which answers the paths that no protocol of ours claims.
Under uvicorn with our `Connection` a response is written in one piece; under any other ASGI server
(a test client, say) the same code sends ASGI messages.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from predictor.errors import (
    InvalidToken,
    MethodNotAllowed,
    ModelNotFound,
    PredictorError,
    RequestTimeout,
    UnsupportedCoding,
)
from predictor.http.body import Take, take_anonymous
from predictor.http.coding import CodedProtocol, compress, inflate
from predictor.http.connection import HEADERS_KEY
from predictor.http.exchange import Exchange, Receive, Scope, Send, encoded
from predictor.http.gate import Gate
from predictor.http.messages import HttpRequest, HttpResponse, new_request_id
from predictor.telemetry.logging import AccessEntry, AccessLog
from predictor.telemetry.record import CURRENT, RequestRecord
from predictor.telemetry.requests import RequestMeter

logger = logging.getLogger(__name__)

AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_MAX_REQUEST_ID = 128
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
        exchange = Exchange(scope, receive, send, self._take)
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
        self, request: HttpRequest, exchange: Exchange, record: RequestRecord
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

    async def _answer(self, protocol: HttpProtocol, request: HttpRequest, exchange: Exchange) -> HttpResponse:
        try:
            if request.method == "CONNECT":
                raise MethodNotAllowed
            self._gate.admit(request)
            request.body = await exchange.read_body(self._max_request_size)
            if request.body and request.header("content-encoding"):
                await self._inflate(protocol, request)
            return await protocol.handle(request)
        except PredictorError as error:
            # Its traceback leads back to this frame, and would keep the request's body until it is collected.
            failed = error.with_traceback(None)
        except Exception:
            logger.exception("request %s: %s %s", request.request_id, request.method, request.path)
            failed = PredictorError("Internal server error")
        if isinstance(failed, ModelNotFound) and not request.trusted:
            failed = ModelNotFound(failed.model)
        response = protocol.render_error(failed)
        response.reason = failed.message
        if isinstance(failed, UnsupportedCoding):
            response.headers.append(("Accept-Encoding", ", ".join(failed.known)))
        if isinstance(failed, (InvalidToken, RequestTimeout)):
            # A body that nobody wants, or that does not come, is not worth a kept connection.
            response.close = response.close or not exchange.complete
        if isinstance(failed, InvalidToken) and response.status == failed.status:
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
                message["headers"] = [*message.get("headers", ()), *encoded(headers)]
            await send(message)

        await self._fallback(scope, _limited(receive, self._max_request_size), note_status)
        return seen["status"]


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


def _limited(receive: Receive, limit: int) -> Receive:
    """Wrap `receive` for KServe's app, which knows no limit: a longer body ends as a disconnect."""
    size = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        return message if size <= limit else {"type": "http.disconnect"}

    return limited
