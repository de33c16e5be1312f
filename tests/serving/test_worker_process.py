"""The front end's end of a worker's channel, spoken to through a fake transport."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
import uvloop
from serving_fakes import bodies, request, settle, until

from predictor.ipc.frames import FrameDecoder, encode_frame
from predictor.ipc.messages import (
    Batch,
    Cancel,
    Chunk,
    InferenceResult,
    Load,
    Loaded,
    LoadFailed,
    ModelInfo,
    Progress,
    Results,
    Stop,
    ToWorker,
)
from predictor.serving.batch import SentBatch
from predictor.serving.job import Job
from predictor.serving.worker import WorkerProcess, WorkerState, _environment


class Owner:
    """Notes what it is told."""

    def __init__(self):
        self.events = []

    def worker_loaded(self, worker, message):
        self.events.append(("loaded", message.device))

    def worker_answered(self, worker, batch, message):
        self.events.append(("answered", bodies(batch.jobs), [result.body for result in message.results]))

    def worker_lost(self, worker):
        self.events.append(("lost", worker.describe_end()))


class Transport:
    """Decodes what is written to the worker."""

    def __init__(self):
        self.decoder = FrameDecoder(ToWorker)
        self.written = []
        self.closing = False

    def write(self, data):
        self.written += self.decoder.feed(data)

    def is_closing(self):
        return self.closing


class Channel:
    """A `WorkerProcess` without a process."""

    def __init__(self):
        self.owner = Owner()
        self.worker = WorkerProcess(self.owner, 3)
        self.transport = Transport()
        self.worker.connection_made(self.transport)

    def says(self, *messages):
        self.worker.data_received(b"".join(encode_frame(message) for message in messages))

    def load(self):
        self.says(Loaded("cpu", 0.5, ModelInfo()))


def _batch(number, *texts, timeout=60.0):
    return SentBatch(number, [Job(request(text), asyncio.get_running_loop()) for text in texts], timeout)


@pytest.fixture
async def channel():
    made = Channel()
    yield made
    made.worker._deadline.close()


async def test_states_of_a_working_life(channel):
    worker = channel.worker
    assert worker.state is WorkerState.STARTING
    assert not worker.alive
    channel.load()
    assert worker.state is WorkerState.READY
    assert worker.alive
    worker.send(_batch(1, "a"))
    assert worker.state is WorkerState.BUSY
    assert worker.alive
    channel.says(Results(1, [InferenceResult(body=b"A")]))
    assert worker.state is WorkerState.READY
    assert channel.owner.events == [("loaded", "cpu"), ("answered", ["a"], [b"A"])]


async def test_batches_are_sent_as_they_are_and_answered_in_order(channel):
    channel.load()
    channel.worker.send(_batch(1, "a", "b"))
    channel.worker.send(_batch(2, "c"))
    assert [type(message) for message in channel.transport.written] == [Batch, Batch]
    assert [request.body for request in channel.transport.written[0].requests] == [b"a", b"b"]
    channel.says(Results(1, [InferenceResult(), InferenceResult()]), Results(2, [InferenceResult()]))
    assert [event[1] for event in channel.owner.events[1:]] == [["a", "b"], ["c"]]
    assert not channel.worker.inflight


async def test_messages_in_pieces(channel):
    channel.load()
    channel.worker.send(_batch(1, "a"))
    for byte in encode_frame(Results(1, [InferenceResult(body=b"A")])):
        channel.worker.data_received(bytes([byte]))
    assert channel.owner.events[-1] == ("answered", ["a"], [b"A"])


async def test_a_cancellation_names_the_place_in_the_batch(channel):
    channel.load()
    first, second = _batch(1, "a"), _batch(2, "b", "c")
    channel.worker.send(first)
    channel.worker.send(second)
    channel.worker.cancel(second.jobs[1])
    assert channel.transport.written[-1] == Cancel(2, [1])
    channel.worker.cancel(_batch(9, "stranger").jobs[0])
    assert channel.transport.written[-1] == Cancel(2, [1])


async def test_a_part_goes_to_its_request(channel):
    channel.load()
    batch = _batch(1, "a", "b")
    channel.worker.send(batch)
    channel.says(Chunk(1, 1, InferenceResult(body=b"part")))
    assert (await batch.jobs[1].future).body == b"part"
    assert not batch.jobs[0].future.done()


async def test_a_failed_load_is_remembered(channel):
    channel.says(LoadFailed("no weights", True))
    assert channel.worker.load_error == LoadFailed("no weights", True)
    assert channel.worker.state is WorkerState.STARTING


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x01\0\0\0\xc0",
        b"\x03\0\0\0\x91\xa1\x80",
        bytes(encode_frame(Results(99, []))),
        bytes(encode_frame(Chunk(99, 0, InferenceResult()))),
        bytes(encode_frame(Progress(99))),
    ],
    ids=["type", "text", "unknown batch", "part of an unknown batch", "progress of an unknown batch"],
)
async def test_a_worker_that_talks_nonsense_is_killed(channel, monkeypatch, garbage):
    killed = []
    monkeypatch.setattr(channel.worker, "kill", lambda: killed.append(True))
    channel.load()
    channel.worker.data_received(garbage)
    assert killed


async def test_too_few_answers_leave_nobody_waiting(channel, monkeypatch):
    monkeypatch.setattr(channel.worker, "kill", lambda: channel.owner.events.append("killed"))
    channel.load()
    channel.worker.send(_batch(1, "a", "b"))
    channel.says(Results(1, [InferenceResult()]))
    assert channel.owner.events[-1] == "killed"


@pytest.mark.usefixtures("instantly")
async def test_the_response_timeout_counts_for_each_batch_anew(channel, monkeypatch):
    worker = channel.worker
    monkeypatch.setattr(worker, "kill", lambda: channel.owner.events.append("killed"))
    channel.load()
    worker.send(_batch(1, "a", timeout=0.1))
    await asyncio.sleep(0.06)
    worker.send(_batch(2, "b", timeout=0.1))
    channel.says(Results(1, [InferenceResult()]))
    await asyncio.sleep(0.06)
    assert not worker.timed_out, "the second batch began when the first was answered"
    await until(lambda: worker.timed_out)
    assert channel.owner.events[-1] == "killed"


@pytest.mark.usefixtures("instantly")
async def test_an_idle_worker_has_no_timeout(channel):
    channel.load()
    channel.worker.send(_batch(1, "a", timeout=0.01))
    channel.says(Results(1, [InferenceResult()]))
    await asyncio.sleep(0.03)
    assert not channel.worker.timed_out


async def test_nothing_is_written_to_a_closing_channel(channel):
    channel.load()
    channel.transport.closing = True
    channel.worker.send(_batch(1, "a"))
    assert channel.transport.written == []


async def test_the_end_of_the_channel_is_the_end_of_the_worker(channel):
    channel.load()
    channel.worker.connection_lost(None)
    await settle()
    assert channel.worker.state is WorkerState.DEAD
    assert channel.owner.events[-1][0] == "lost"


async def test_stopping_a_worker_that_was_never_started():
    await WorkerProcess(Owner(), 0).stop(1.0)


def _process(code):
    """Return a finished or running child with the given Python code."""
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


async def test_stopping_asks_first_and_kills_after_the_grace(channel):
    process = _process("import time; time.sleep(60)")
    channel.worker._process = process
    channel.load()
    stopping = asyncio.ensure_future(channel.worker.stop(0.05))
    await settle()
    assert channel.worker.state is WorkerState.DRAINING
    assert channel.transport.written == [Stop()]
    await asyncio.get_running_loop().run_in_executor(None, process.wait)
    channel.worker.connection_lost(None)
    await stopping
    assert channel.worker.describe_end() == "was killed by SIGKILL"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import os; os._exit(3)", "exited with code 3"),
        (f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})", "was killed by SIGSEGV"),
    ],
)
async def test_how_an_end_is_described(channel, code, text):
    channel.worker._process = _process(code)
    channel.worker.connection_lost(None)
    await until(lambda: channel.owner.events)
    assert channel.owner.events == [("lost", text)]


@pytest.mark.parametrize("by_us", [True, False])
async def test_who_killed_a_worker(channel, by_us):
    """A SIGKILL that is not ours means that memory ran out; ours stays ours when the process is reaped."""
    channel.worker._process = _process("import time; time.sleep(60)")
    if by_us:
        channel.worker.kill()
    else:
        channel.worker._process.kill()
    channel.worker.connection_lost(None)
    await until(lambda: channel.owner.events)
    assert channel.owner.events == [("lost", "was killed by SIGKILL")]
    assert channel.worker.was_killed_by_others is not by_us


async def test_how_a_timeout_is_described(channel):
    channel.worker.timed_out = True
    assert channel.worker.describe_end() == "was killed: loading took too long"
    channel.load()
    assert channel.worker.describe_end() == "was killed: its response took too long"


def _load(threads):
    return Load("m", "1", "/m", {}, {}, None, 1, threads, False, True, 1)


def test_the_environment_of_a_worker(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment = _environment(_load(3))
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["TS_DECODE_INPUT_REQUEST"] == "false"
    assert environment["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in _environment(_load(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert _environment(_load(3))["OMP_NUM_THREADS"] == "1"
    assert environment.items() >= {(key, value) for key, value in os.environ.items() if key == "PATH"}


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_start_that_is_cancelled_leaves_no_process_behind(turns):
    """A shutdown cancels what is under way; the worker must still be able to end."""

    async def main():
        owner = Owner()
        worker = WorkerProcess(owner, 1)
        start = asyncio.ensure_future(worker.start(_load(1), 60))
        await settle(turns)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        await asyncio.wait_for(worker.stop(5), 20)
        assert [kind for kind, _ in owner.events] == (["lost"] if worker.pid else [])

    uvloop.run(main())
