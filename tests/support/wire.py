"""HTTP as bytes: what is sent and what comes back, with nothing tidied up in between."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any

Headers = Sequence[tuple[str, str]]


class ConnectionEndedError(ConnectionError):
    """The server closed the connection before a whole response had come."""


@dataclasses.dataclass
class Response:
    """One response as it was on the wire; `chunks` are those of a chunked body, else None."""

    version: str
    status: int
    phrase: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] | None = None
    interim: list[int] = dataclasses.field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Return a header's value whatever the case of its name; None when it is missing."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


class Connection:
    """A TCP connection to the server on which requests are sent by hand."""

    def __init__(self, port: int, timeout: float = 90.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._buffer = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def request(self, method: str, path: str, **options: Any) -> Response:
        """Send a request and read its response."""
        self.send(encode(method, path, **options))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """Read one response, with the interim ones (100 Continue) before it."""
        interim: list[int] = []
        while True:
            response = self._head()
            if response.status >= 200:
                break
            interim.append(response.status)
        response.interim = interim
        if method != "HEAD":
            self._read_body(response)
        return response

    def closed_by_server(self, seconds: float = 60.0) -> bool:
        """Wait for the end of the connection; False when it stays open that long, or more data comes."""
        self.socket.settimeout(seconds)
        try:
            return not self._buffer and self.socket.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def _head(self) -> Response:
        head = self._until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.split("\r\n")
        version, _, rest = first.partition(" ")
        status, space, phrase = rest.partition(" ")
        assert space, f"no space after the status: {first!r}"
        headers = [(line.partition(":")[0], line.partition(":")[2].strip()) for line in lines]
        return Response(version, int(status), phrase, headers)

    def _read_body(self, response: Response) -> None:
        if response.status in (204, 304):
            return
        if response.header("transfer-encoding") == "chunked":
            response.chunks = []
            while size := int(self._until(b"\r\n"), 16):
                response.chunks.append(self._exactly(size))
                assert self._exactly(2) == b"\r\n"
            assert self._until(b"\r\n") == b""
            response.body = b"".join(response.chunks)
        else:
            length = response.header("content-length")
            assert length is not None, f"neither a length nor chunks: {response.headers}"
            response.body = self._exactly(int(length))

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        data, _, self._buffer = self._buffer.partition(mark)
        return data

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionEndedError(
                f"the server closed the connection; read so far: {self._buffer[:200]!r}"
            )
        self._buffer += data


@contextlib.contextmanager
def connections(port: int, count: int) -> Iterator[list[Connection]]:
    """Open `count` connections, and close them in the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Connection(port)) for _ in range(count)]


def encode(
    method: str, path: str, body: object = b"", headers: Headers = (), content_type: str = ""
) -> bytes:
    """Return a request as bytes; a `body` that is not bytes or str is sent as JSON.

    Content-Length is added unless `headers` have it or Transfer-Encoding, or there is no body.
    """
    if isinstance(body, str):
        data = body.encode()
    elif isinstance(body, (bytes, bytearray)):
        data = bytes(body)
    else:
        data, content_type = json.dumps(body).encode(), content_type or "application/json"
    names = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if "host" not in names:
        lines.insert(1, "Host: localhost")
    if content_type:
        lines.append(f"Content-Type: {content_type}")
    if (data or method in ("POST", "PUT")) and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data


def request(port: int, method: str, path: str, **options: Any) -> Response:
    """Send one request on a connection of its own."""
    with Connection(port, options.pop("timeout", 90.0)) as connection:
        return connection.request(method, path, **options)


def chunked(*parts: bytes) -> bytes:
    """Return `parts` as the chunks of a body, the last one included."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def multipart(
    *parts: tuple[str, bytes, str | None, str | None], boundary: str = "XbOuNdArYX"
) -> tuple[bytes, str]:
    """Return body and content type of a form; each part is (name, data, file name, content type)."""
    body = b""
    for name, data, filename, content_type in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            body += f'; filename="{filename}"'.encode()
        if content_type is not None:
            body += f"\r\nContent-Type: {content_type}".encode()
        body += b"\r\n\r\n" + data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class Asks:
    """A server in a test: requests to its `port`, each on a connection of its own.

    Attributes:
        port: where it answers HTTP.
    """

    port: int

    def get(self, path: str, **options: object) -> Response:
        """Send a GET request; `options` as for `request`."""
        return self.send("GET", path, **options)

    def post(self, path: str, body: object = b"", **options: object) -> Response:
        """Send a POST request; a `body` that is not bytes goes as JSON."""
        return self.send("POST", path, body=body, **options)

    def send(self, method: str, path: str, **options: object) -> Response:
        """Send one request."""
        return request(self.port, method, path, **options)  # type: ignore[arg-type]
