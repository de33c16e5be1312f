"""Many requests at once."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from support import wire
from support.wire import ConnectionEndedError, Response


@dataclasses.dataclass
class Outcome:
    """What became of one request: a response or the error of the connection, and its times in seconds."""

    response: Response | None
    error: str
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.started


class Client:
    """One client's connection, opened when needed and kept while the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, **options: Any) -> Response:
        """Send one request and read its response.

        Raises:
            OSError: the connection failed before the response was complete.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        reader, writer = self._streams
        try:
            writer.write(wire.encode(method, path, **options))
            response = await self._read(reader, method)
        except asyncio.IncompleteReadError as error:
            self.close()
            raise ConnectionEndedError(f"the server closed the connection after {error.partial!r}") from error
        except BaseException:
            self.close()
            raise
        if response.header("connection") == "close":
            self.close()
        return response

    def close(self) -> None:
        """Drop the connection, whatever is going on on it."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _read(self, reader: asyncio.StreamReader, method: str) -> Response:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        version, status, phrase = first.split(" ", 2)
        headers = [(line.partition(":")[0], line.partition(":")[2].strip()) for line in lines]
        response = Response(version, int(status), phrase, headers)
        length = int(response.header("content-length") or 0)
        if method != "HEAD" and length:
            response.body = await reader.readexactly(length)
        return response


async def fire(
    port: int, requests: Sequence[dict[str, Any]], *, clients: int, keep_alive: Iterable[bool] = (True,)
) -> list[Outcome]:
    """Send `requests` (arguments of `wire.encode`) from `clients` clients; returns outcomes in their order.

    Args:
        keep_alive: for each client in turn, whether it uses one connection for all of its requests.
    """
    outcomes: list[Outcome | None] = [None] * len(requests)
    waiting = iter(range(len(requests)))
    kinds = list(keep_alive)

    async def run(kind: bool) -> None:
        client = Client(port)
        for position in waiting:
            outcomes[position] = await attempt(client, **requests[position])
            if not kind:
                client.close()
        client.close()

    await asyncio.gather(*(run(kinds[number % len(kinds)]) for number in range(clients)))
    return [outcome for outcome in outcomes if outcome is not None]


async def attempt(client: Client, **request: Any) -> Outcome:
    """Send one request and note what became of it."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        response, error = await client.request(**request), ""
    except OSError as failure:
        response, error = None, repr(failure)
    return Outcome(response, error, started, loop.time())
