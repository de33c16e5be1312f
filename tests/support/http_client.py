"""An application behind a connection whose bytes go in and out through a fake transport."""

from __future__ import annotations

import asyncio

import uvicorn
from uvicorn.server import ServerState

from predictor.errors import PayloadTooLarge
from predictor.http.application import Application
from predictor.http.messages import HttpResponse
from predictor.http.receiver import Receiver


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self):
        super().__init__({"peername": ("10.0.0.1", 5), "sockname": ("10.0.0.2", 80), "socket": None})
        self.data = b""
        self.closing = False
        self.reading = True

    def write(self, data):
        assert not self.closing, "written after the end"
        self.data += data

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_write_buffer_size(self):
        return 0


class Protocol:
    def __init__(self):
        self.seen = []
        self.response = lambda request: HttpResponse(200, request.body)

    async def handle(self, request):
        self.seen.append(request)
        made = self.response(request)
        return await made if asyncio.iscoroutine(made) else made

    def render_error(self, error):
        if isinstance(error, PayloadTooLarge):
            return HttpResponse(413, close=True, bare=True)
        return HttpResponse(error.status, error.message.encode(), close=True)


class Client:
    """A connection to an application over one protocol."""

    def __init__(self, limit=1000, **options):
        self.protocol = Protocol()
        self.app = Application(lambda method, path: self.protocol, None, limit, None, **options)
        config = uvicorn.Config(self.app, http=Receiver, lifespan="off", log_config=None, ws="none")
        config.load()
        self.transport = Transport()
        self.receiver = Receiver(config, ServerState(), {}, asyncio.get_running_loop())
        self.connection = self.receiver.connection
        self.receiver.connection_made(self.transport)

    async def send(self, *pieces):
        for piece in pieces:
            await self.deliver(piece)
        return self.take()

    async def deliver(self, data):
        """Do what a loop does with bytes that have come: as many at a time as there is room for."""
        while data:
            if not self.transport.reading:
                await self.turn()
                assert self.transport.reading, "nobody wants to read on"
            room = memoryview(self.receiver.get_buffer(-1))
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.receiver.buffer_updated(count)
            data = data[count:]
        await self.turn()

    async def turn(self):
        for _ in range(10):
            await asyncio.sleep(0)

    def take(self):
        data, self.transport.data = self.transport.data, b""
        return data

    def close(self):
        self.connection.timeout_keep_alive_task and self.connection.timeout_keep_alive_task.cancel()
