"""A worker process: loads one model, then answers batches until its socket closes.

One thread, one loop. Before each batch everything that has arrived is read, without waiting, so that
a batch sent ahead starts at once and a cancellation that overtook it is heard in time.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections import deque

from predictor.handlers.context import Context
from predictor.ipc.frames import FrameDecoder, encode_frame
from predictor.ipc.messages import (
    Batch,
    Cancel,
    FromWorker,
    InferenceResult,
    Load,
    Loaded,
    LoadFailed,
    Results,
    ToWorker,
)
from predictor.runtime.device import choose_device, describe_device
from predictor.runtime.loader import HandlerError, load_handler
from predictor.runtime.service import Service
from predictor.telemetry.logging import configure_worker_logging

logger = logging.getLogger(__name__)

_READ_SIZE = 1 << 20
_PR_SET_PDEATHSIG = 1


class Channel:
    """The worker's end of the socket: blocking writes, reads that wait or not as asked."""

    def __init__(self, connection: socket.socket) -> None:
        """Speak over `connection`."""
        self._socket = connection
        self._decoder: FrameDecoder[ToWorker] = FrameDecoder(ToWorker)
        self.closed = False

    def receive(self, wait: bool) -> list[ToWorker]:
        """Return the messages that have come; with `wait`, sleep until there is one or the end."""
        messages: list[ToWorker] = []
        while not self.closed:
            flags = 0 if wait and not messages else socket.MSG_DONTWAIT
            try:
                data = self._socket.recv(_READ_SIZE, flags)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                self.closed = True
                break
            messages += self._decoder.feed(data)
        return messages

    def send(self, message: FromWorker) -> None:
        """Write one message; the front end reads all the time, so this does not wait for long."""
        try:
            self._socket.sendall(encode_frame(message))
        except (BrokenPipeError, ConnectionError):
            self.closed = True


class Worker:
    """The loop around one service."""

    def __init__(self, channel: Channel, service: Service) -> None:
        """Answer what comes over `channel` with `service`."""
        self._channel = channel
        self._service = service
        self._batches: deque[Batch] = deque()
        self._cancelled: dict[int, set[int]] = {}
        self._stopping = False

    def run(self) -> None:
        """Answer batches until the front end says stop or goes away."""
        while not self._channel.closed:
            for message in self._channel.receive(wait=not self._batches and not self._stopping):
                self._take(message)
            if self._batches:
                self._answer(self._batches.popleft())
            elif self._stopping:
                return

    def _take(self, message: ToWorker) -> None:
        if isinstance(message, Batch):
            self._batches.append(message)
        elif isinstance(message, Cancel):
            self._cancelled.setdefault(message.batch_id, set()).update(message.positions)
        else:
            self._stopping = True

    def _answer(self, batch: Batch) -> None:
        # Batches come and go in order, so a cancellation of an earlier batch came too late.
        gone = self._cancelled.pop(batch.id, set())
        self._cancelled = {number: where for number, where in self._cancelled.items() if number > batch.id}
        wanted = [request for position, request in enumerate(batch.requests) if position not in gone]
        answers = iter(self._service.run(wanted) if wanted else [])
        results: list[InferenceResult | None] = [
            None if position in gone else next(answers) for position in range(len(batch.requests))
        ]
        self._channel.send(Results(batch.id, results))


def load_service(load: Load) -> tuple[Service, str]:
    """Load the model that `load` describes; returns the service and its device, for people.

    Raises:
        Exception: whatever the handler's own code raises.
    """
    device = choose_device(load.gpu_id, load.threads)
    os.chdir(load.directory)
    sys.path.insert(0, load.directory)
    os.environ["PYTHONPATH"] = os.pathsep.join([load.directory, os.environ.get("PYTHONPATH", "")])
    manifest = load.manifest
    context = Context(
        load.model_name,
        load.directory,
        manifest,
        load.batch_size,
        load.gpu_id if device.type == "cuda" else None,
        limit_max_image_pixels=load.limit_max_image_pixels,
        model_yaml_config=load.config,
    )
    handler = load_handler(str(manifest.get("model", {}).get("handler", "")), context)
    service = Service(
        handler, context, decode_input=load.decode_input, max_response_size=load.max_response_size
    )
    return service, describe_device(device)


def main() -> None:
    """Run as a worker: the first argument is the number of the inherited socket."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_worker_logging()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    started = time.monotonic()
    messages = channel.receive(wait=True)
    if not messages or not isinstance(messages[0], Load):
        return
    load = messages[0]
    sys.argv = sys.argv[:1]
    try:
        service, device = load_service(load)
    except (Exception, SystemExit) as error:
        channel.send(_load_failure(error))
        raise SystemExit(1) from None
    channel.send(Loaded(device, time.monotonic() - started, service.info))
    worker = Worker(channel, service)
    for message in messages[1:]:
        worker._take(message)
    worker.run()


def _load_failure(error: BaseException) -> LoadFailed:
    """Describe a failed load in one line; the handler's own frames go to the log."""
    if not isinstance(error, HandlerError):
        logger.error("loading failed\n%s", "".join(traceback.format_exception(error)))
    reason = f"could not load its model: {type(error).__name__}: {error}"
    return LoadFailed(reason, isinstance(error, MemoryError) or "out of memory" in str(error))


def _die_with_parent() -> None:
    """Ask the kernel to end this process when the front end is killed (Linux only).

    The closing socket ends an idle worker; this ends one that is stuck in a handler.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
