"""A worker process: loads one model, then answers batches until its socket closes.

One thread, one loop. Before each batch everything that has arrived is read, without waiting, so that
a batch sent ahead starts at once and a cancellation that overtook it is heard in time. Between the passes
of an explanation predictions that have arrived are answered.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from predictor.explain.giving_way import LetOthers, as_before_explaining, giving_way
from predictor.handlers.context import Context
from predictor.handlers.inputs import SignatureError
from predictor.handlers.modules import ModelFileError
from predictor.ipc.allocator import keep_freed_blocks
from predictor.ipc.arena import ArenaReader
from predictor.ipc.messages import (
    Batch,
    Cancel,
    Chunk,
    GivesWay,
    InferenceResult,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Results,
    Timing,
    ToWorker,
    Verb,
)
from predictor.runtime.channel import Channel
from predictor.runtime.continuous import ContinuousBatcher
from predictor.runtime.device import choose_device, describe_device
from predictor.runtime.loader import HandlerError, load_handler, new_metrics, wrap_in_envelope
from predictor.runtime.reporting import reported
from predictor.runtime.service import Service
from predictor.telemetry.logging import configure_worker_logging

logger = logging.getLogger(__name__)

# Of the time of a worker while both wait: explanations get a fifth, as the front end has it, too.
PREDICTIONS_PER_EXPLANATION = 4.0
_PR_SET_PDEATHSIG = 1


class Worker:
    """The loop around one service."""

    def __init__(self, channel: Channel, service: Service, continuous: bool = False) -> None:
        """Answer what comes over `channel` with `service`, batching continuously if asked to."""
        self._channel = channel
        self._service = service
        self._batches: deque[Batch] = deque()
        self._cancelled: dict[int, set[int]] = {}
        self._continuous = ContinuousBatcher(service) if continuous else None
        self._stopping = False

    def run(self, messages: Sequence[ToWorker] = ()) -> None:
        """Answer batches until the front end says stop or goes away.

        Args:
            messages: what came together with the order to load.
        """
        self._take(messages)
        while not self._channel.closed:
            self._take(self._channel.receive(wait=not self._busy and not self._stopping))
            if self._batches:
                self._answer(self._batches.popleft())
            elif self._continuous:
                for answer in self._continuous.step():
                    if isinstance(answer, Results):
                        answer.measured = reported(self._service.context.metrics)
                    self._channel.send(answer)
            elif self._stopping:
                return

    @property
    def _busy(self) -> bool:
        return bool(self._batches or self._continuous)

    def _take(self, messages: Sequence[ToWorker]) -> None:
        for message in messages:
            answer: Results | None = None
            if isinstance(message, Batch):
                if self._continuous is None:
                    self._batches.append(message)
                else:
                    for request in message.requests:
                        self._channel.fetch_body(request, copy=True)
                    answer = self._continuous.add(message)
            elif isinstance(message, Cancel):
                if self._continuous is None:
                    self._cancelled.setdefault(message.batch_id, set()).update(message.positions)
                else:
                    answer = self._continuous.cancel(message)
            else:
                self._stopping = True
            if answer is not None:
                self._channel.send(answer)

    def _answer(self, batch: Batch) -> None:
        gone = self._cancelled.pop(batch.id, ())
        if self._cancelled:
            # Batches come and go in order, so a cancellation of an earlier batch came too late.
            self._cancelled = {number: at for number, at in self._cancelled.items() if number > batch.id}
        wanted = [position for position in range(len(batch.requests)) if position not in gone]
        results: list[InferenceResult | None] = [None] * len(batch.requests)
        started = time.monotonic()
        self._service.stopwatch.restart()
        if wanted:

            def send_part(index: int, part: InferenceResult) -> None:
                self._channel.send(Chunk(batch.id, wanted[index], part))

            def progress() -> None:
                self._channel.send(Progress(batch.id))

            requests = [batch.requests[position] for position in wanted]
            for request in requests:
                self._channel.fetch_body(request, copy=not self._service.copies_body(request))
            if requests[0].verb is Verb.EXPLAIN:
                with giving_way(self._others_first(batch.id)):
                    answers = self._service.run(requests, send_part, progress)
            else:
                answers = self._service.run(requests, send_part, progress)
            for position, answer in zip(wanted, answers, strict=True):
                results[position] = answer
        timing = Timing(started, *self._service.stopwatch.read()) if wanted else None
        self._channel.send(Results(batch.id, results, timing, reported(self._service.context.metrics)))

    def _others_first(self, batch_id: int) -> LetOthers:
        """Return what answers predictions between the passes of the explanations of a batch."""
        told = False

        def let_others(seconds: float) -> None:
            nonlocal told
            if not told:
                told = True
                self._channel.send(GivesWay(batch_id))
            until = time.monotonic() + seconds * PREDICTIONS_PER_EXPLANATION
            self._take(self._channel.receive(wait=False))
            while self._batches:
                with self._service.aside(), as_before_explaining():
                    self._answer(self._batches.popleft())
                if time.monotonic() > until:
                    return
                self._take(self._channel.receive(wait=False))

        return let_others


def load_service(load: Load) -> tuple[Service, str]:
    """Load the model that `load` describes; returns the service and its device, for people.

    Raises:
        Exception: whatever the handler's own code raises.
    """
    if load.niceness:
        _give_way(load.niceness)
    device = choose_device(load.gpu_id, load.threads)
    os.chdir(load.directory)
    paths = [load.directory, *load.extra_paths]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    manifest = load.manifest
    if not load.limit_max_image_pixels:
        Image.MAX_IMAGE_PIXELS = None
    context = Context(
        load.model_name,
        load.directory,
        manifest,
        load.batch_size,
        load.gpu_id if device.type == "cuda" else None,
        limit_max_image_pixels=load.limit_max_image_pixels,
        model_yaml_config=load.config,
    )
    context.explain_timeout = load.explain_timeout
    context.explain_max_rows = load.explain_max_rows
    context.metrics = new_metrics(load.model_name, load.log_metrics)
    described = manifest.get("model", {})
    handler = load_handler(str(described.get("handler", "")), context)
    envelope = load.service_envelope or str(described.get("envelope") or "")
    service = Service(
        handler,
        context,
        decode_input=load.decode_input,
        max_response_size=load.max_response_size,
        enveloped=wrap_in_envelope(envelope, handler.entry_point) if envelope else None,
        stateful=load.stateful,
        bare_instances=envelope in ("kserve", "json"),
    )
    return service, describe_device(device)


def _give_way(niceness: int) -> None:
    """Let other processes have the CPU first.

    Linux may schedule sessions as groups (autogroup, the default of desktops and many virtual machines), and
    a worker has a session of its own: there niceness counts within it only, and the group has one itself.
    """
    os.nice(niceness)
    with contextlib.suppress(OSError):  # no autogroups here
        Path("/proc/self/autogroup").write_text(str(niceness))


def main() -> None:
    """Run as a worker: the arguments are the inherited socket's number, and the arena's if there is one."""
    _die_with_parent()
    keep_freed_blocks()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure_worker_logging()
    connection = socket.socket(fileno=int(sys.argv[1]))
    # A handler's forked children must not keep the channel open when this process has gone.
    os.register_at_fork(after_in_child=connection.close)
    channel = Channel(connection, ArenaReader(int(sys.argv[2])) if len(sys.argv) > 2 else None)
    started = time.monotonic()
    messages = channel.receive(wait=True)
    if not messages or not isinstance(messages[0], Load):
        return
    load = messages[0]
    sys.argv = sys.argv[:1]
    try:
        service, device = load_service(load)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a handler's import may raise anything
        channel.send(_load_failure(error))
        raise SystemExit(1) from None
    # What has been loaded stays: looking through all of it now and then would hold up requests.
    gc.collect()
    gc.freeze()
    channel.send(Loaded(device, time.monotonic() - started, service.info))
    Worker(channel, service, load.continuous).run(messages[1:])


def _load_failure(error: BaseException) -> LoadFailed:
    """Describe a failed load in one line; the handler's own frames go to the log."""
    if not isinstance(error, (HandlerError, ModelFileError, SignatureError)):
        logger.error("loading failed\n%s", "".join(traceback.format_exception(error)))
    reason = f"could not load its model: {type(error).__name__}: {error}"
    return LoadFailed(reason, isinstance(error, MemoryError) or "out of memory" in str(error))


def _die_with_parent() -> None:
    """Ask the kernel to end this process when the front end is killed (Linux only).

    The closing socket ends an idle worker; this ends one that is stuck in a handler.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
