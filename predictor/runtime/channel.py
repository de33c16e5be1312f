"""The worker's end of the socket that it shares with the front end."""

from __future__ import annotations

import select
import socket
import threading
from typing import cast

from predictor.ipc.arena import ArenaReader
from predictor.ipc.frames import FrameDecoder, encode_frame
from predictor.ipc.messages import FromWorker, InferenceRequest, ToWorker

_READ_SIZE = 1 << 18


class Channel:
    """The worker's end of the socket: blocking writes, reads that wait or not as asked."""

    def __init__(self, connection: socket.socket, arena: ArenaReader | None = None) -> None:
        """Speak over `connection`; large bodies lie in `arena`."""
        self._socket = connection
        self._arena = arena
        self._sending = threading.Lock()
        self._buffer = memoryview(bytearray(_READ_SIZE))
        self._decoder: FrameDecoder[ToWorker] = FrameDecoder(ToWorker)
        # Who sleeps in `recv` is woken once more for nothing: when the front end reads an answer, which makes
        # room for more of them. That cost a tenth of the CPU of a request of 602 KB, in both processes.
        self._arrival = select.poll()
        self._arrival.register(connection, select.POLLIN)
        self.closed = False

    def receive(self, wait: bool) -> list[ToWorker]:
        """Return the messages that have come; with `wait`, sleep until there is one or the end."""
        messages: list[ToWorker] = []
        while not self.closed:
            if wait and not messages:
                self._arrival.poll()
            try:
                count = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except ConnectionError:
                count = 0
            if not count:
                self.closed = True
                break
            messages += self._decoder.feed(self._buffer[:count])
            if count < _READ_SIZE and messages:
                break  # all that was there has been read
        return messages

    def fetch_body(self, request: InferenceRequest, copy: bool) -> None:
        """Give a request its body if that lies in the arena, whose place is used again after the answer.

        Args:
            copy: whether it may be kept longer than that; else it is a read-only memoryview.
        """
        if self._arena is not None and request.shared[1]:
            view = self._arena.view(*request.shared)
            request.body = bytes(view) if copy else cast(bytes, view)

    def send(self, message: FromWorker) -> None:
        """Write one message; the front end reads all the time, so this does not wait for long."""
        frame = encode_frame(message)
        try:
            # Threads of a handler send parts of their own.
            with self._sending:
                self._socket.sendall(frame)
        except (BrokenPipeError, ConnectionError):
            self.closed = True
