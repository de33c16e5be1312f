"""HTTP/2 by hand, for requests that no gRPC client would send."""

from __future__ import annotations

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def literals(headers: list[tuple[str, str]]) -> bytes:
    """Return headers in HPACK's simplest form: literal, not indexed, not Huffman coded, short."""
    coded = b""
    for name, value in headers:
        coded += b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    return coded


def call(path: str, body: bytes, *, end: bool = True, **further: str) -> bytes:
    """Return the bytes of a connection that makes one call with `body` as it is, prefix included."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "test",
        "content-type": "application/grpc",
        "te": "trailers",
        **{name.replace("_", "-"): value for name, value in further.items()},
    }
    return b"".join(
        (
            PREFACE,
            frame(SETTINGS, 0, 0),
            frame(HEADERS, END_HEADERS, 1, literals(list(headers.items()))),
            frame(DATA, END_STREAM if end else 0, 1, body),
        )
    )


def send(port: int, data: bytes, seconds: float = 2.0) -> bytes:
    """Send `data` on a connection of its own; returns what comes back until `seconds` pass or it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        received = b""
        try:
            connection.sendall(data)
            while not _is_answered(received):
                part = connection.recv(65536)
                if not part:
                    break
                received += part
        except OSError:
            pass  # closed or silent, either is an answer
        return received


def _is_answered(received: bytes) -> bool:
    """Return whether the stream or the connection has ended."""
    position = 0
    while position + 9 <= len(received):
        length = int.from_bytes(received[position : position + 3], "big")
        kind, flags = received[position + 3], received[position + 4]
        if kind in (RST_STREAM, GOAWAY) or (kind in (DATA, HEADERS) and flags & END_STREAM):
            return True
        position += 9 + length
    return False
