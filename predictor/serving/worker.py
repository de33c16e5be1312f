"""The front end's hold on one worker process: its start, its channel, its state, its end."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Protocol, cast

import msgspec

from predictor.ipc.arena import SHARED_FROM_BYTES, Arena
from predictor.ipc.frames import FrameDecoder, FrameError, encode_frame
from predictor.ipc.messages import (
    Batch,
    Cancel,
    Chunk,
    FromWorker,
    GivesWay,
    InferenceRequest,
    Load,
    Loaded,
    LoadFailed,
    Progress,
    Results,
    Stop,
)
from predictor.serving.batch import SentBatch
from predictor.serving.deadline import Deadline
from predictor.serving.job import Job

logger = logging.getLogger(__name__)

# A prefetched batch should lie in the kernel, where the worker finds it without waking the front end.
_SOCKET_BUFFER = 4 * 1024 * 1024
# What a process wrote before it ended is read in far less.
_LAST_WORDS_SECONDS = 0.05
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent
# Neither the current directory nor the model's folder may shadow this package or the standard library
# before the worker's own modules are imported: a model's folder may well hold a `predictor.py`.
_BOOTSTRAP = (
    f"import sys; sys.path[:1] = [{str(_PACKAGE_ROOT / 'predictor' / 'compat')!r}]; "
    f"sys.path.append({str(_PACKAGE_ROOT)!r}); "
    "from predictor.runtime.worker import main; main()"
)


class WorkerState(enum.Enum):
    """STARTING -> READY <-> BUSY -> DRAINING -> DEAD; STARTING -> DEAD when loading fails."""

    STARTING = "STARTING"
    READY = "READY"
    BUSY = "BUSY"
    DRAINING = "DRAINING"
    DEAD = "DEAD"


_ALIVE = (WorkerState.READY, WorkerState.BUSY)


class WorkerOwner(Protocol):
    """Who is told what happens to a worker."""

    def worker_loaded(self, worker: WorkerProcess, message: Loaded) -> None:
        """The model is loaded; batches may be sent."""

    def worker_answered(self, worker: WorkerProcess, batch: SentBatch, message: Results) -> None:
        """A batch is done: the oldest, or one behind it to which it gave way."""

    def worker_gives_way(self, worker: WorkerProcess) -> None:
        """Predictions may be sent behind the explanation that it runs."""

    def worker_lost(self, worker: WorkerProcess) -> None:
        """The process has ended, or its channel has; `worker.inflight` holds what it left undone."""


class WorkerProcess(asyncio.Protocol):
    """One worker process, and the batches it holds.

    The process is started afresh (fork and exec of a new interpreter, never a bare fork), with one end
    of a Unix socket pair. It ends when the socket does, so no worker outlives the front end.

    Attributes:
        number: identifies the worker within its model version, and in the log.
        state: see `WorkerState`.
        inflight: batches sent and not answered, oldest first; the worker runs the first one, or the second
            while the first gives way.
        load_error: why loading failed, None unless it did.
        timed_out: it was killed because it exceeded a time limit.
        started_at: loop time of its start, 0 before.
        started_on: the same in seconds since 1970.
        gpu_id: the CUDA device that it uses, None for the CPU.
    """

    def __init__(
        self, owner: WorkerOwner, number: int, arena: Arena | None = None, python: str = sys.executable
    ) -> None:
        """Prepare a worker that will run under the interpreter `python`, and get large bodies in `arena`."""
        self.owner = owner
        self.number = number
        self.state = WorkerState.STARTING
        self.inflight: deque[SentBatch] = deque()
        self.load_error: LoadFailed | None = None
        self.timed_out = False
        self.loaded: Loaded | None = None
        self.started_at = 0.0
        self.started_on = 0.0
        self.gpu_id: int | None = None
        self._python = python
        self._decoder: FrameDecoder[FromWorker] = FrameDecoder(FromWorker)
        self._transport: asyncio.Transport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline = Deadline(self._time_out)
        self._pidfd = -1
        self._killed = False
        self._arena = arena
        self._exited = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id, 0 before the start."""
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        """Whether batches may be sent."""
        return self.state in _ALIVE

    @property
    def was_killed_by_others(self) -> bool:
        """Whether a SIGKILL that we did not send ended the process: lack of memory, as a rule."""
        code = self._process.returncode if self._process is not None else None
        return code == -signal.SIGKILL and not self._killed

    async def start(self, load: Load, startup_timeout: float) -> None:
        """Start the process and tell it what to load; `owner.worker_loaded` follows.

        Args:
            startup_timeout: seconds until a worker that has not loaded is killed.
        """
        loop = asyncio.get_running_loop()
        self.started_at, self.started_on = loop.time(), time.time()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        with theirs:
            self._spawn(theirs, load)
        # Also when this is cancelled, by a shutdown: nothing else tells of the end of the process.
        await asyncio.shield(loop.create_unix_connection(lambda: self, sock=ours))
        self._watch(loop)
        self._write(load)
        self._deadline.set(startup_timeout)

    def send(self, batch: SentBatch) -> None:
        """Give the worker a batch; it runs after those it already holds.

        Raises:
            FrameError: the batch is too large to travel.
        """
        frame = encode_frame(Batch(batch.id, [self._place(batch, job.request) for job in batch.jobs]))
        self.inflight.append(batch)
        self.state = WorkerState.BUSY
        self._write_frame(frame)
        if len(self.inflight) == 1:
            self._restart_deadline()

    def cancel(self, job: Job) -> None:
        """Ask that a job that was sent is skipped if it has not started."""
        for batch in self.inflight:
            if job in batch.jobs:
                self._write(Cancel(batch.id, [batch.jobs.index(job)]))

    async def stop(self, grace: float) -> None:
        """Let the worker finish what it holds, then end it; kill it after `grace` seconds."""
        if self._process is None:
            return
        if self.loaded is None:
            # It holds no request, and does not listen before it has loaded.
            self.kill()
        elif self.state is not WorkerState.DEAD:
            self.state = WorkerState.DRAINING
            self._write(Stop())
        try:
            await asyncio.wait_for(self._exited.wait(), grace)
        except asyncio.TimeoutError:
            self.kill()
            await self._exited.wait()

    def kill(self) -> None:
        """End the process and its children at once; `owner.worker_lost` follows."""
        if self._process is not None and self._process.returncode is None:
            # Reaping kills what may be left of it once more; what ended it first is what counts.
            self._killed |= not _has_ended(self._process)
            # Not reaped yet, so the number still means this process, even if it has ended already.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()

    def describe_end(self) -> str:
        """Say for the log why the process ended."""
        if self.timed_out:
            what = "its response" if self.loaded else "loading"
            return f"was killed: {what} took too long"
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return "closed its channel"
        if code < 0:
            known = {int(member): member.name for member in signal.Signals}
            return f"was killed by {known.get(-code, f'signal {-code}')}"
        return f"exited with code {code}"

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Act on every message that `data` completes."""
        try:
            for message in self._decoder.feed(data):
                self._receive(message)
        except FrameError as error:
            # Whatever wrote to the socket, it is not our protocol any more.
            logger.error("worker %d: %s", self.number, error)
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """Reap the process and tell the owner."""
        self._deadline.close()
        asyncio.get_running_loop().create_task(self._reap())

    # private

    def _spawn(self, theirs: socket.socket, load: Load) -> None:
        """Start the process with its end of the socket, and the arena if there is one."""
        inherited = [theirs.fileno()] + ([self._arena.descriptor] if self._arena is not None else [])
        # Returns once the new program runs, after about a millisecond.
        self._process = subprocess.Popen(
            [self._python, "-c", _BOOTSTRAP, *map(str, inherited)],
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            env=_environment(load),
            start_new_session=True,  # Ctrl-C is for the front end, which lets workers finish
        )

    def _receive(self, message: FromWorker) -> None:
        if isinstance(message, Results):
            self._take_results(message)
        elif isinstance(message, Chunk):
            jobs = self._sent(message.batch_id).jobs
            if not 0 <= message.position < len(jobs):
                raise FrameError(f"a part for request {message.position} of {len(jobs)}")
            jobs[message.position].chunk(message.result)
            self._restart_deadline()
        elif isinstance(message, Progress):
            self._sent(message.batch_id)
            self._restart_deadline()
        elif isinstance(message, GivesWay):
            self._sent(message.batch_id).gives_way = True
            self.owner.worker_gives_way(self)
        elif isinstance(message, Loaded):
            self._deadline.clear()
            self.loaded = message
            if self.state is WorkerState.STARTING:
                self.state = WorkerState.READY
            self.owner.worker_loaded(self, message)
        else:
            self.load_error = message

    def _take_results(self, message: Results) -> None:
        """Take the answers to a batch, which makes room for another."""
        batch = self._sent(message.batch_id)
        if len(message.results) != len(batch.jobs):
            raise FrameError(f"{len(message.results)} answers to {len(batch.jobs)} requests")
        self.inflight.remove(batch)
        if self.inflight:
            self._restart_deadline()
        else:
            self._deadline.clear()
            if self.state is WorkerState.BUSY:
                self.state = WorkerState.READY
        self.owner.worker_answered(self, batch, message)

    def _place(self, batch: SentBatch, request: InferenceRequest) -> InferenceRequest:
        """Return what travels for `request`: of a body in the arena, or large enough for it, the place."""
        if self._arena is None:
            return request
        offset = self._arena.offset_of(request.body)
        if offset is None and len(request.body) >= SHARED_FROM_BYTES:
            block = self._arena.put(request.body)
            if block is not None:
                batch.blocks.append(block)
                offset = self._arena.offset_of(block)
        if offset is None:
            return request
        return msgspec.structs.replace(request, body=b"", shared=(offset, len(request.body)))

    def _sent(self, batch_id: int) -> SentBatch:
        """Return the batch in flight with this id: the first, unless it gives way or batches run together."""
        for batch in self.inflight:
            if batch.id == batch_id:
                return batch
        raise FrameError(f"an answer to batch {batch_id}, which was not sent")

    def _write(self, message: msgspec.Struct) -> None:
        self._write_frame(encode_frame(message))

    def _write_frame(self, frame: bytearray) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)

    def _restart_deadline(self) -> None:
        self._deadline.set(self.inflight[0].timeout)

    def _time_out(self) -> None:
        self.timed_out = True
        self.kill()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Notice the end of the process itself: its children may keep the socket open."""
        if self._process is None or not hasattr(os, "pidfd_open"):
            return
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            # An old kernel, or a sandbox that forbids it; the closing socket has to do.
            return
        loop.add_reader(self._pidfd, self._on_exit)

    def _on_exit(self) -> None:
        """Close the channel of a process that has ended, once what it sent last has been read."""
        self._unwatch()
        if self._transport is not None:
            asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self._transport.close)

    def _unwatch(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    async def _reap(self) -> None:
        """Wait for the process; one that closed its channel but lives on is killed, children included."""
        self._unwatch()
        process = self._process
        if process is not None:
            for _ in range(20):
                if _has_ended(process):
                    break
                await asyncio.sleep(0.01)
            self.kill()
            await asyncio.get_running_loop().run_in_executor(None, process.wait)
        self.state = WorkerState.DEAD
        self._exited.set()
        self.owner.worker_lost(self)


def waiting_batches(worker: WorkerProcess) -> list[SentBatch]:
    """Return the batches that a worker holds and cannot have begun with, because others run before them."""
    batches = list(worker.inflight)
    return batches[2 if batches and batches[0].gives_way else 1 :]


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Look without waiting, and without reaping: the process number must stay ours until it is killed."""
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _environment(load: Load) -> dict[str, str]:
    """Return the environment of a worker; it adds the model's folder to PYTHONPATH itself."""
    environment = dict(os.environ)
    environment.update(
        PYTHONUNBUFFERED="1",
        PYTHONDONTWRITEBYTECODE="1",
        TS_DECODE_INPUT_REQUEST=str(load.decode_input).lower(),
    )
    if load.threads:
        environment.setdefault("OMP_NUM_THREADS", str(load.threads))
    return environment
