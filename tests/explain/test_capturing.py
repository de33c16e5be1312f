"""How passes are recorded on a GPU: what is asked of CUDA, and in which order, by a stand-in for it.

What only a GPU can say is in test_cuda_graphs.py.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings

import pytest
import torch

from predictor.explain.capturing import CudaCapturing, cuda_capturing

# Before it is replaced.
_SIGNATURE = inspect.signature(torch.cuda.graph)
_WAITED = "called a synchronizing CUDA operation"


class FakeStream:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def wait_stream(self, other):
        self.cuda.told.append(f"{self.name} waits for {other.name}")

    def synchronize(self):
        self.cuda.told.append(f"{self.name} is waited for")


class FakeGraph:
    """Its work is what was done while it was recorded; it is done again in the same places of memory."""

    def __init__(self, cuda):
        self.cuda, self.work = cuda, []

    def replay(self):
        self.cuda.told.append("replay")
        for again in self.work:
            again()

    def reset(self):
        self.cuda.told.append("reset")
        self.work = None


class FakeGenerator:
    def __init__(self, state=0):
        self.state = state

    def clone_state(self):
        return FakeGenerator(self.state + 1)

    def graphsafe_set_state(self, other):
        self.state = other.state


class FakeCuda:
    """What of `torch.cuda` is used.

    Attributes:
        told: what was asked of it.
        recording: the graph that is.
        failure: raised when a recording ends.
        peak, free: bytes.
    """

    def __init__(self, monkeypatch):
        self.told, self.recording, self.failure, self.mode, self.peak, self.free = [], None, None, 0, 500, 900
        self.current = self.outside = FakeStream(self, "outside")
        self.generator, self.graphs = FakeGenerator(), []
        self.underway = False
        replaced = {
            "Stream": lambda index: FakeStream(self, f"side {index}"),
            "current_stream": lambda index: self.current,
            "stream": self.in_stream,
            "graph": self.recorded,
            "CUDAGraph": self.new_graph,
            "graph_pool_handle": lambda: (0, 7),
            "get_sync_debug_mode": lambda: self.mode,
            "set_sync_debug_mode": self.watch,
            "mem_get_info": lambda index: (self.free, 1000),
            "memory_allocated": lambda index: 100,
            "max_memory_allocated": lambda index: self.peak,
            "reset_peak_memory_stats": lambda index: None,
            "default_generators": (self.generator,),
        }
        for name, value in replaced.items():
            monkeypatch.setattr(torch.cuda, name, value)
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", self.leave_pool)
        monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *pool: self.told.append(f"release {pool}"))

    def watch(self, mode):
        self.mode = {"default": 0, "warn": 1, "error": 2}.get(mode, mode)
        warnings.warn("a prototype that does not detect all synchronizing operations", stacklevel=1)

    def new_graph(self):
        self.graphs.append(FakeGraph(self))
        return self.graphs[-1]

    def leave_pool(self, *pool):
        if not self.underway:
            raise RuntimeError("not currently recording to it")
        self.underway = False
        self.told.append(f"leave {pool}")

    @contextlib.contextmanager
    def in_stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextlib.contextmanager
    def recorded(self, *args, **kwargs):
        given = _SIGNATURE.bind(*args, **kwargs).arguments
        assert given["capture_error_mode"] == "thread_local"
        self.told.append(f"record on {given['stream'].name} in {given['pool']}")
        before, self.current = self.current, given["stream"]
        self.recording, self.underway = given["cuda_graph"], True
        try:
            yield
        finally:
            self.recording = None
            if self.failure is not None:
                raise self.failure  # as PyTorch does: the stream stays, and so does the allocator's part
            self.underway = False
            self.current = before

    def run(self, tensors):
        """Stand for a pass."""
        self.told.append(f"run on {self.current.name}")
        (place,) = tensors
        answer = place * 2 + 1
        if self.recording is not None:
            self.recording.work.append(lambda: answer.copy_(place * 2 + 1))
        return (answer,)


@pytest.fixture
def cuda(monkeypatch):
    return FakeCuda(monkeypatch)


def test_a_pass_is_warmed_up_and_recorded_beside_the_default_stream(cuda):
    given = (torch.tensor([1.0, 2.0]),)
    captured = CudaCapturing(0).capture(cuda.run, given)
    assert cuda.told == [
        "side 0 waits for outside",
        *["run on side 0"] * 3,
        "outside waits for side 0",
        "record on side 0 in (0, 7)",
        "run on side 0",
    ]
    assert cuda.current is cuda.outside
    first = captured((torch.tensor([10.0, 20.0]),))
    second = captured((torch.tensor([0.0, 3.0]),))
    assert cuda.told[-2:] == ["replay", "replay"]
    assert [found.tolist() for (found,) in (first, second)] == [[21, 41], [1, 7]]
    assert given[0].tolist() == [1, 2]
    captured.drop()
    assert cuda.told[-1] == "reset"


def test_a_pass_that_waits_for_the_gpu_is_refused_before_it_is_recorded(cuda):
    def run(tensors):
        if cuda.mode == 1:
            warnings.warn(_WAITED, stacklevel=1)
        return cuda.run(tensors)

    capturing = CudaCapturing(0)
    with pytest.raises(RuntimeError, match="waits for the GPU in the middle of a pass"):
        capturing.capture(run, (torch.ones(2),))
    assert not cuda.graphs
    assert cuda.mode == 0
    assert cuda.current is cuda.outside
    assert capturing.capture(cuda.run, (torch.ones(2),)) is not None  # nothing was harmed


def test_caches_that_are_filled_by_the_first_passes_may_wait(cuda):
    calls = []

    def run(tensors):
        calls.append(tensors)
        if len(calls) < 3 and cuda.mode:
            warnings.warn(_WAITED, stacklevel=1)
        warnings.warn("something else", stacklevel=1)
        return cuda.run(tensors)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert CudaCapturing(0).capture(run, (torch.ones(2),)) is not None


def test_what_a_failed_recording_leaves_behind_is_undone_and_no_other_is_begun(cuda):
    cuda.failure = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    capturing = CudaCapturing(0)
    with pytest.raises(RuntimeError, match="previous error during capture"):
        capturing.capture(cuda.run, (torch.ones(2),))
    assert cuda.told[-3:] == ["leave (0, (0, 7))", "release (0, (0, 7))", "reset"]
    assert cuda.generator.state == 1
    assert cuda.current is cuda.outside
    assert torch.is_autocast_cache_enabled()
    cuda.failure = None
    with pytest.raises(RuntimeError, match="could not be recorded in this process before"):
        capturing.capture(cuda.run, (torch.ones(2),))
    assert len(cuda.graphs) == 1


def test_a_recording_that_ends_in_order_leaves_nothing_to_undo(cuda):
    def run(tensors):
        if cuda.recording is not None:
            raise torch.OutOfMemoryError("too large")
        return cuda.run(tensors)

    with pytest.raises(torch.OutOfMemoryError):
        CudaCapturing(0).capture(run, (torch.ones(2),))
    assert cuda.told[-1] == "reset"
    assert not [event for event in cuda.told if event.startswith(("leave", "release"))]


@pytest.mark.parametrize(("free", "fits"), [(500, True), (499, False)])
def test_as_much_memory_as_the_pass_itself_takes_must_be_left(cuda, free, fits):
    cuda.free = free  # 400 for a pass, and a tenth of 1000
    refusal = (
        contextlib.nullcontext() if fits else pytest.raises(RuntimeError, match="too little of the GPU's")
    )
    with refusal:
        CudaCapturing(0).capture(cuda.run, (torch.ones(2),))


def test_autocast_keeps_no_weights_meanwhile(cuda):
    seen = []

    def run(tensors):
        with torch.autocast("cpu", torch.bfloat16):
            seen.append(torch.is_autocast_cache_enabled())
        return cuda.run(tensors)

    CudaCapturing(0).capture(run, (torch.ones(2),))
    assert seen == [False] * 4
    assert torch.is_autocast_cache_enabled()


def test_time_is_taken_from_an_idle_stream_until_it_is_idle_again(cuda):
    seconds = CudaCapturing(0).seconds(lambda: cuda.told.append("work"))
    assert cuda.told == ["outside is waited for", "work", "outside is waited for"]
    assert seconds >= 0


def test_there_is_one_for_each_gpu_of_a_process(cuda):
    try:
        assert cuda_capturing(0) is cuda_capturing(0)
    finally:
        cuda_capturing.cache_clear()
