"""One HTTP/1.1 connection: uvicorn's httptools protocol, with what TorchServe's clients can see.

Three things differ from uvicorn: header names keep the client's spelling (handlers look them up with
it), the status line may carry any reason phrase, and a response that is ready is written in one piece,
without going through ASGI messages. Everything else, KServe's own routes included, is ASGI.
"""

from __future__ import annotations

import asyncio
import http
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from predictor.http.body import (
    IN_PLACE_FROM_BYTES,
    BodyInParts,
    BodyInPlace,
    IncomingBody,
    Take,
)
from predictor.http.messages import new_request_id

# Line and headers of one request, at most; Tomcat's and nginx's limits are lower.
MAX_HEAD_BYTES = 64 * 1024
# Seconds that a client may take for line and headers.
_HEAD_SECONDS = 30.0
# Bytes of framing for each byte of a chunked body: chunks of a single byte have five.
_MAX_CHUNK_OVERHEAD = 8
# How long a client that is still sending a refused body is listened to, so that it can read the refusal.
_LINGER_SECONDS = 2.0
# Requests that a client may send ahead of its answers on one connection before it is not read further.
_MAX_PIPELINED = 16
_PHRASES = {int(status): status.phrase for status in http.HTTPStatus}
# The names that TorchServe's clients see, whatever this version of Python calls them.
_PHRASES.update(
    {413: "Request Entity Too Large", 414: "Request-URI Too Long", 416: "Requested Range Not Satisfiable"}
)
_PHRASES[422] = "Unprocessable Entity"
del _PHRASES[418]
_KINDS = {1: "Informational", 2: "Success", 3: "Redirection", 4: "Client Error", 5: "Server Error"}
_INVALID_MESSAGE = (
    b'{\n  "code": 400,\n  "type": "BadRequestException",\n  "message": "Invalid HTTP message."\n}\n'
)
_UPGRADE = re.compile(rb"^(connection:[^\r\n]*?)\bupgrade\b", re.IGNORECASE | re.MULTILINE)
HEADERS_KEY = "predictor.headers"
CYCLE_KEY = "predictor.cycle"


class Cycle(RequestResponseCycle):
    """One request and its response on a connection.

    Attributes:
        on_disconnect: called when the client goes away before its answer is complete.
        incoming: takes the parts of the body that somebody waits for.
        give_place: tells the connection where the rest of the body goes, past the parser.
    """

    on_disconnect: Callable[[], object] | None = None
    incoming: BodyInParts | None = None
    give_place: Callable[[BodyInPlace], None]

    @property
    def body_is_here(self) -> bool:
        """Whether the client has sent its whole body, and waits for no leave to do so."""
        return not self.more_body and not self.waiting_for_100_continue

    async def whole_body(
        self, limit: int, patience: float, length: int | None, take: Take
    ) -> bytes | memoryview | None:
        """Return the body once all of it is here; None as soon as it is longer than `limit` bytes.

        Args:
            limit: bytes.
            patience: seconds.
            length: what the client has declared, not more than `limit`; None for a chunked body.
            take: finds memory where a large body may lie.

        Raises:
            asyncio.TimeoutError: no byte has come for `patience` seconds.
            asyncio.CancelledError: the client has gone before the end of its body.
        """
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = False
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body: IncomingBody
        if self.more_body and length is not None and length - len(self.body) >= IN_PLACE_FROM_BYTES:
            body = BodyInPlace(self.body, length, take)
            self.give_place(body)
        else:
            body = self.incoming = BodyInParts(self.body, limit)
        self.body = bytearray()
        if not self.more_body or body.size > limit or self.disconnected:
            body.end()
        self.flow.resume_reading()
        try:
            await body.arrival(patience)
        finally:
            self.incoming = None
        if self.disconnected:
            raise asyncio.CancelledError
        return body.content() if body.size <= limit else None

    def write_head(
        self, status: int, phrase: str | None, headers: list[tuple[str, str]], close: bool
    ) -> bytes:
        """Return status line and headers, which end with the `connection` header."""
        self.response_started = True
        self.waiting_for_100_continue, expects = False, self.waiting_for_100_continue
        if close or expects:
            self.keep_alive = False
        reason = phrase if phrase is not None else _PHRASES.get(status) or _unknown_phrase(status)
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        if not "".join(lines).isprintable():
            lines = [_one_line(line) for line in lines]
        lines.append("connection: keep-alive\r\n\r\n" if self.keep_alive else "connection: close\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1", "replace")

    def write(self, data: bytes) -> None:
        """Send bytes, unless the client has gone."""
        if not self.disconnected:
            self.transport.write(data)

    async def drain(self) -> None:
        """Wait while the client reads slower than it is written to."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()

    def finish(self, linger: bool = True) -> None:
        """End the response; a connection that closes first hears a body out that is still coming."""
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive and not self.transport.is_closing():
            if self.more_body and linger:
                self.flow.resume_reading()
                asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.transport.close)
            else:
                self.transport.close()
        self.on_response()


class Connection(HttpToolsProtocol):
    """See the module.

    Attributes:
        in_place: the body that is being received past the parser, if one is.
    """

    cycle: Cycle | None  # type: ignore[assignment]
    in_place: BodyInPlace | None = None
    _answering: Cycle | None = None
    _head_timer: asyncio.TimerHandle | None = None
    _head_complete = False
    _raw_bytes = 0
    _body_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless a message has more around its body than any honest client sends."""
        self._raw_bytes += len(data)
        if self.cycle is None or not self.cycle.more_body:
            data = _without_upgrade(data)
        super().data_received(data)
        if not self._head_complete:
            self._wait_for_head()
        allowed = MAX_HEAD_BYTES + self._body_bytes * (1 + _MAX_CHUNK_OVERHEAD)
        if self._raw_bytes > allowed and not self.transport.is_closing():
            self.send_400_response("")

    def body_received(self, count: int) -> None:
        """Note that `count` bytes have come to where `in_place` wanted them."""
        body = cast(BodyInPlace, self.in_place)
        body.advance(count)
        if body.complete:
            self.in_place = None
            # The old one waits for a body that it will never see.
            self.parser = _new_parser(self)
            self.on_message_complete()

    def hold_back(self) -> None:
        """Read no more of a body before somebody wants it, and has a place for it."""
        cycle = self.cycle
        if cycle is not None and cycle.more_body and cycle.incoming is None and not cycle.response_complete:
            self.flow.pause_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first head."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered that nobody waits for it, and forget those behind it."""
        super().connection_lost(exc)
        self._head_has_come()
        self.pipeline.clear()
        for body in (self.in_place, self.cycle.incoming if self.cycle is not None else None):
            if body is not None:
                body.end()
        # What belongs to a connection waits for the collector; the memory for a body is needed sooner.
        self.in_place = None
        cycle = self._answering
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            if cycle.on_disconnect is not None:
                cycle.on_disconnect()

    def send_400_response(self, msg: str) -> None:
        """Answer something that is not HTTP as TorchServe does, then close."""
        note_invalid = getattr(self.app, "note_invalid", None)
        if note_invalid is not None:
            note_invalid()
        headers = [("content-type", "application/json"), *common_headers(new_request_id())]
        headers += [("content-length", str(len(_INVALID_MESSAGE))), ("connection", "close")]
        lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in headers)]
        self.transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + _INVALID_MESSAGE)
        self.transport.close()

    def _wait_for_head(self) -> None:
        """Close the connection unless a whole head comes soon; a crowd that sends none would block others."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _receive_in_place(self, body: BodyInPlace) -> None:
        self.in_place = body

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Begin to collect a head."""
        super().on_message_begin()
        self._head_complete = False
        self._named: list[tuple[str, str]] = []
        cast(dict[str, Any], self.scope)[HEADERS_KEY] = self._named

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header twice: lower case for ASGI, and as it came; drop the trailer of a chunked body.

        RFC 9110 (6.5.1) forbids to merge trailer fields into the header, where they would pass for what
        a proxy in front has checked.
        """
        if self._head_complete:
            return
        self._named.append((name.decode("latin-1"), value.decode("latin-1")))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start a request; like uvicorn's, but for the class of the cycle and HTTP/1.0 keep-alive."""
        self._head_complete = True
        self._head_has_come()
        scope = cast(dict[str, Any], self.scope)
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        raw_path = url.path
        scope["raw_path"] = raw_path
        scope["path"] = (
            unquote(raw_path.decode("latin-1")) if b"%" in raw_path else raw_path.decode("latin-1")
        )
        scope["query_string"] = url.query or b""
        previous = self.cycle
        cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            # Whatever follows a wish for another protocol is not read as a request.
            keep_alive=self.parser.should_keep_alive() and not self.parser.should_upgrade(),
            on_response=self.on_response_complete,
        )
        cycle.give_place = self._receive_in_place
        scope[CYCLE_KEY] = cycle
        self.cycle = cycle
        if previous is None or previous.response_complete:
            self._answering = cycle
            self._start_asgi_task(cycle, self.app)
            return
        # Reading goes on, so that the end of the connection is seen, but not without limit.
        self.pipeline.appendleft((cycle, self.app))
        if len(self.pipeline) >= _MAX_PIPELINED:
            self.flow.pause_reading()

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection, if it has come already."""
        self._answering = cast(Cycle, self.pipeline[-1][0]) if self.pipeline else None
        super().on_response_complete()

    def on_body(self, body: bytes) -> None:
        """Count the body apart from what frames it."""
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle is not None and cycle.incoming is not None:
            cycle.incoming.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Close a connection that was kept only to hear a refused body out."""
        self._raw_bytes = self._body_bytes = 0
        cycle = cast(Cycle, self.cycle)
        cycle.more_body = False
        if cycle.incoming is not None:
            cycle.incoming.end()
        if cycle.response_complete and not cycle.keep_alive:
            self.transport.close()
        super().on_message_complete()


def _new_parser(connection: Connection) -> httptools.HttpRequestParser:
    """Return a parser as uvicorn sets one up."""
    parser = httptools.HttpRequestParser(connection)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def common_headers(request_id: str, cache_control: str = "") -> list[tuple[str, str]]:
    """Return the headers that go with every response; without `cache_control` nobody may keep it."""
    if cache_control:
        return [("x-request-id", request_id), ("Cache-Control", cache_control)]
    return [
        ("x-request-id", request_id),
        ("Pragma", "no-cache"),
        ("Cache-Control", "no-cache; no-store, must-revalidate, private"),
        ("Expires", "Thu, 01 Jan 1970 00:00:00 UTC"),
    ]


def _without_upgrade(data: bytes) -> bytes:
    """Take the wish for another protocol out of a head; the parser would drop the request's body for it.

    Java's HttpClient offers h2c with every request; RFC 9110 (7.8) lets a server ignore that.
    """
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    size = end if end >= 0 else len(data)
    if data.find(b"pgrade", 0, size) < 0:
        return data
    return _UPGRADE.sub(rb"\1x-ignored", data[:size]) + data[size:]


def _unknown_phrase(status: int) -> str:
    return f"{_KINDS.get(status // 100, 'Unknown Status')} ({status})"


def _one_line(text: str) -> str:
    """Keep what a handler says from adding headers of its own, or anything that proxies read differently."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)
