"""Passes recorded as CUDA graphs: all of a pass's kernels, started by one call instead of one each."""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch

Tensors = tuple[torch.Tensor, ...]
Run = Callable[[Tensors], Tensors]

# As PyTorch's notes on CUDA graphs have it: libraries choose their algorithms in the first passes.
_WARM_UPS = 3
# Of the device's memory, beside what a pass without a graph takes.
_LEAST_FREE_SHARE = 0.1
_WAITED = "called a synchronizing CUDA operation"


class Captured(Protocol):
    """A recorded pass."""

    def __call__(self, tensors: Tensors) -> Tensors:
        """Run it for other numbers in tensors of the same shapes; what it returns stays as it is."""

    def drop(self) -> None:
        """Give its memory back; it is never called again."""


class Capturing(Protocol):
    """What records passes."""

    def capture(self, run: Run, tensors: Tensors) -> Captured:
        """Record `run`, which is a function of nothing but `tensors`.

        Raises:
            Exception: it cannot be recorded, for a reason that the text tells.
        """

    def seconds(self, run: Callable[[], object]) -> float:
        """Return the time that a call takes, until the device has done what it asks for."""


@functools.cache
def cuda_capturing(index: int) -> Capturing:
    """Return what records passes on the GPU of that number; there is one in a process."""
    return CudaCapturing(index)


class CudaCapturing:
    """Records passes on one GPU.

    The graphs share a pool of memory: one runs at a time, and what it answers is copied before the next.
    """

    def __init__(self, index: int) -> None:
        """Record on the GPU `index`, which is the current one."""
        self._index = index
        self._stream = torch.cuda.Stream(index)  # type: ignore[no-untyped-call]
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._unfinished: list[torch.cuda.CUDAGraph] = []

    def capture(self, run: Run, tensors: Tensors) -> Captured:
        """Record `run`; one that waits for the device, which a graph cannot, is refused before it is tried.

        Raises:
            RuntimeError: it cannot be recorded, or leaves too little memory.
        """
        if self._unfinished:
            raise RuntimeError("one could not be recorded in this process before")
        held = tuple(tensor.detach().clone() for tensor in tensors)
        # A recording that fails inside PyTorch leaves its stream the current one.
        with torch.cuda.stream(torch.cuda.current_stream(self._index)), _without_cast_weights():
            needed = self._warm_up(run, held)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads may go on as they like, as far as CUDA allows it.
                with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                    found = run(held)
            except BaseException:
                self._tidy(graph)
                raise
        free, total = torch.cuda.mem_get_info(self._index)
        if free < needed + _LEAST_FREE_SHARE * total:
            raise RuntimeError("it would leave too little of the GPU's memory")
        return _CudaGraph(graph, held, found)

    def _warm_up(self, run: Run, tensors: Tensors) -> int:
        """Run what is to be recorded, beside the default stream; return the bytes that it needs meanwhile.

        Raises:
            RuntimeError: it waits for the device even when all caches are filled.
        """
        outside = torch.cuda.current_stream(self._index)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UPS - 1):
                run(tensors)
            torch.cuda.reset_peak_memory_stats(self._index)
            before = torch.cuda.memory_allocated(self._index)
            with _watching() as seen:
                run(tensors)
        outside.wait_stream(self._stream)
        if any(_WAITED in str(warning.message) for warning in seen):
            raise RuntimeError("the model waits for the GPU in the middle of a pass")
        return torch.cuda.max_memory_allocated(self._index) - before

    def _tidy(self, graph: torch.cuda.CUDAGraph) -> None:
        """Undo what a recording leaves behind that CUDA has not let end; PyTorch does not (2.13).

        Its allocator would go on as if one were under way: keep what others want to free, ask the graph
        which stream it records, and refuse to give back cached memory. The generator of random numbers
        likewise (before 2.9 or so).
        """
        self._unfinished.append(graph)
        generator = torch.cuda.default_generators[self._index]

        def leave_pool() -> None:
            torch._C._cuda_endAllocateToPool(self._index, self._pool)
            torch._C._cuda_releasePool(self._index, self._pool)

        def renew_generator() -> None:
            generator.graphsafe_set_state(generator.clone_state())

        for step in (leave_pool, graph.reset, renew_generator):
            # Each says so where there is nothing to undo.
            with contextlib.suppress(RuntimeError, AttributeError):
                step()

    def seconds(self, run: Callable[[], object]) -> float:
        """Return the time that a call takes, in an otherwise idle stream."""
        stream = torch.cuda.current_stream(self._index)
        stream.synchronize()
        started = time.perf_counter()
        run()
        stream.synchronize()
        return time.perf_counter() - started


class _CudaGraph:
    """A graph with the tensors whose places in memory it has taken down."""

    def __init__(self, graph: torch.cuda.CUDAGraph, held: Tensors, found: Tensors) -> None:
        self._graph = graph
        self._held = held
        self._found = found

    def __call__(self, tensors: Tensors) -> Tensors:
        with torch.no_grad():
            for place, tensor in zip(self._held, tensors, strict=True):
                place.copy_(tensor)
            self._graph.replay()
            return tuple(tensor.clone() for tensor in self._found)

    def drop(self) -> None:
        self._graph.reset()
        self._held = self._found = ()


@contextlib.contextmanager
def _without_cast_weights() -> Iterator[None]:
    """Keep autocast from keeping weights: those cast while recording would lie where graphs compute."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


@contextlib.contextmanager
def _watching() -> Iterator[Sequence[warnings.WarningMessage]]:
    """Collect PyTorch's warnings of operations that wait for the device."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield seen
        finally:
            torch.cuda.set_sync_debug_mode(before)
