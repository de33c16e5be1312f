"""Content codings (RFC 9110, 8.4): bodies that come as gzip or deflate, and answers that go so when asked.

A body is inflated in steps of bounded size, and never past the limit for bodies, so that a small one that
stands for gigabytes costs no more than an honest one. Whatever one short step does not finish goes on in
threads of its own: zlib lets the event loop run meanwhile.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from predictor.errors import InvalidInput, PayloadTooLarge, UnsupportedCoding
from predictor.http.messages import HttpRequest, HttpResponse

CODINGS = ("gzip", "deflate")
"""Those that this server knows, the better liked first."""

_HEADER = "content-encoding"
_ALIASES = {"x-gzip": "gzip"}
_WINDOW = zlib.MAX_WBITS
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
# Bytes that the event loop itself reads or writes for one body: well below a millisecond.
_ON_LOOP = 64 * 1024
_STEP = 1024 * 1024
# Parts of one gzip file, at most: each costs a fixed amount, and an empty one has 20 bytes.
_MAX_MEMBERS = 1000
# zlib's fastest: a third of the time of its default, for answers some hundredths larger.
_LEVEL = 1
# What is compressed already, by the start of its media type.
_DENSE = ("image/", "audio/", "video/")
# Few, so that not every body that waits is in memory twice.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="coding")


class CodedProtocol:
    """A wire format whose requests may come coded, and whose answers may go so."""

    def inflates(self, request: HttpRequest) -> bool:
        """Say whether the body of a request is read here, and not by a handler that knows its coding."""
        return True


async def inflate(request: HttpRequest, limit: int) -> None:
    """Put what the body of a request stands for in its place.

    Args:
        limit: bytes that it may have then.

    Raises:
        UnsupportedCoding: it has another coding than gzip or deflate, or several.
        InvalidInput: it does not have the coding that its header says.
        PayloadTooLarge: it stands for more than `limit` bytes.
    """
    coding = _coding_of(request)
    if not coding or not request.body:
        return
    stream = _Stream(request.body, coding, limit)
    if not stream.step(_ON_LOOP):
        await asyncio.get_running_loop().run_in_executor(_THREADS, stream.finish)
    request.replace_body(stream.inflated())


async def compress(request: HttpRequest, response: HttpResponse, least: int) -> None:
    """Compress an answer of `least` bytes or more, if the client accepts that; streams are left alone."""
    if response.stream is not None or response.bare:
        return
    named = {name.lower(): value for name, value in response.headers}
    if _HEADER in named:
        return
    response.headers.append(("Vary", "Accept-Encoding"))
    if len(response.body) < least or named.get("content-type", "").startswith(_DENSE):
        return
    coding = accepted(",".join(_values(request, "accept-encoding")))
    if not coding:
        return
    if len(response.body) <= _ON_LOOP:
        response.body = _compressed(response.body, coding)
    else:
        loop = asyncio.get_running_loop()
        response.body = await loop.run_in_executor(_THREADS, _compressed, response.body, coding)
    response.headers.append(("Content-Encoding", coding))


def accepted(header: str) -> str:
    """Return the coding that an Accept-Encoding header likes best, "" for none (RFC 9110, 12.5.3)."""
    weights = dict(_weights(header))
    others = weights.get("*", 0.0)
    # What is not named is identity as a last resort, and any other coding only through `*`.
    plain = weights.get("identity", 0.0)
    best = max(CODINGS, key=lambda coding: weights.get(coding, others))
    weight = weights.get(best, others)
    return best if weight > 0 and weight >= plain else ""


def _weights(header: str) -> Iterator[tuple[str, float]]:
    for item in header.lower().split(","):
        coding, _, parameter = item.partition(";")
        name, _, text = parameter.partition("=")
        try:
            weight = float(text) if name.strip() == "q" else 1.0
        except ValueError:
            continue
        if coding.strip() and 0 <= weight <= 1:
            yield _ALIASES.get(coding.strip(), coding.strip()), weight


def _values(request: HttpRequest, name: str) -> list[str]:
    return [value for key, value in request.headers if key.lower() == name]


def _coding_of(request: HttpRequest) -> str:
    """Return the coding of a body, "" for none.

    Raises:
        UnsupportedCoding: it is unknown, or there are several.
    """
    named = [item.strip().lower() for value in _values(request, _HEADER) for item in value.split(",")]
    codings = [_ALIASES.get(name, name) for name in named if name not in ("", "identity")]
    if len(codings) > 1:
        raise UnsupportedCoding(f"Content-Encoding names {len(codings)} codings; one is read", CODINGS)
    if codings and codings[0] not in CODINGS:
        raise UnsupportedCoding(f"Content-Encoding {codings[0]!r} is unknown", CODINGS)
    return codings[0] if codings else ""


def _compressed(body: bytes, coding: str) -> bytes:
    compressor = zlib.compressobj(_LEVEL, wbits=_GZIP_WINDOW if coding == "gzip" else _WINDOW)
    return compressor.compress(body) + compressor.flush()


class _Stream:
    """A body on its way through zlib."""

    def __init__(self, body: bytes | memoryview, coding: str, limit: int) -> None:
        self._body = memoryview(body)
        self._coding = coding
        self._limit = limit
        self._position = 0
        self._members = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._window = _GZIP_WINDOW
        if coding == "deflate":
            self._window = _WINDOW if _has_zlib_header(self._body) else -_WINDOW
        self._zlib = zlib.decompressobj(self._window)

    def inflated(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def finish(self) -> None:
        """Go on to the end."""
        while not self.step(_STEP):
            continue
        self._parts = [b"".join(self._parts)]

    def step(self, size: int) -> bool:
        """Read and write at most `size` bytes; returns whether this was the last step."""
        source = self._body[self._position : self._position + size]
        try:
            part = self._zlib.decompress(source, size)
        except zlib.error as error:
            raise self._broken(f"it is not {self._coding} ({error})") from error
        self._position += len(source) - len(self._zlib.unconsumed_tail) - len(self._zlib.unused_data)
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._limit:
            self._parts.clear()  # the error's traceback outlives the request's turn
            raise PayloadTooLarge(f"The request inflates to more than {self._limit} bytes (max_request_size)")
        if not self._zlib.eof:
            if not source and not part:
                raise self._broken("it ends too early")
            return False
        if self._position == len(self._body):
            return True
        self._next_member()
        return False

    def _next_member(self) -> None:
        """Go on behind the end of a stream: gzip files may be strung together."""
        self._members += 1
        if self._coding != "gzip":
            raise self._broken(f"{len(self._body) - self._position} bytes follow its end")
        if self._members == _MAX_MEMBERS:
            raise self._broken(f"it has more than {_MAX_MEMBERS} members")
        self._zlib = zlib.decompressobj(self._window)

    def _broken(self, reason: str) -> InvalidInput:
        return InvalidInput(f"Content-Encoding is {self._coding}, but the body cannot be inflated: {reason}")


def _has_zlib_header(body: memoryview) -> bool:
    """Tell the zlib format, which `deflate` means, from the bare stream that some clients send (RFC 1950)."""
    return len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and (body[0] << 8 | body[1]) % 31 == 0
