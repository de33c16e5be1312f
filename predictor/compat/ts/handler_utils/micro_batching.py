"""Splitting a batch into smaller ones that pass through a handler's steps like a pipeline.

While one micro-batch is in `inference`, the next is already in `preprocess`. A handler uses it with
`self.handle = MicroBatching(self, micro_batch_size)` at the end of its `initialize`.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

HANDLER_METHODS = ("preprocess", "inference", "postprocess")

POLL_S = 0.5
"""How long an idle thread sleeps before it looks whether it should end."""


@dataclass
class _Job:
    """One micro-batch on its way; `data` is what the last step made of it, or `error` why it stopped."""

    index: int
    data: Any
    error: BaseException | None = None


@dataclass
class WorkerThread:
    """A thread of one step and the event that ends it."""

    event: threading.Event
    thread: threading.Thread


class MicroBatching:
    """Calls a handler's steps on micro-batches from one or more threads each."""

    def __init__(
        self, parent_handler: Any, micro_batch_size: int = 1, parallelism: Mapping[str, int] | None = None
    ) -> None:
        """`parallelism` maps step names to numbers of threads, 1 where it does not say.

        `micro_batch_size` is in requests. ValueError when a step is unknown or a number is below 1.
        """
        if micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, not {micro_batch_size}")
        self.handler = parent_handler
        self.micro_batch_size = micro_batch_size
        self.thread_groups: dict[str, list[WorkerThread]] = {step: [] for step in HANDLER_METHODS}
        self.thread_local_data = threading.local()
        self._parallelism: dict[str, int] = {}
        # Each step's output queue is the next step's input queue; the last one is the result's.
        self._queues: list[queue.Queue[_Job]] = [queue.Queue() for _ in range(len(HANDLER_METHODS) + 1)]
        self.parallelism = dict(parallelism or {})

    def __del__(self) -> None:
        """End the threads with the object."""
        if hasattr(self, "thread_groups"):
            self.shutdown(wait=False)

    @property
    def parallelism(self) -> dict[str, int]:
        """The threads per step that were asked for (a copy); assigning changes them at once."""
        return dict(self._parallelism)

    @parallelism.setter
    def parallelism(self, parallelism: Mapping[str, int]) -> None:
        for step, threads in parallelism.items():
            if step not in HANDLER_METHODS or threads < 1:
                raise ValueError(
                    f"{step}: {threads} - steps are {', '.join(HANDLER_METHODS)}, with 1 thread or more"
                )
        self._parallelism.update(parallelism)
        for position, step in enumerate(HANDLER_METHODS):
            self._scale(position, step, self._parallelism.get(step, 1))

    def shutdown(self, wait: bool = True) -> None:
        """End all threads; with `wait` return when they have ended."""
        groups = self.thread_groups.values()
        _stop([worker for group in groups for worker in group], wait)
        for group in groups:
            group.clear()

    def get_micro_batch_idx(self) -> int | None:
        """Return the number of the micro-batch the calling thread works on, None in any other thread."""
        return getattr(self.thread_local_data, "micro_batch_idx", None)

    def handle(self, data: list[Any]) -> list[Any]:
        """Return the outputs for `data`, in its order; the first exception of a step is raised here."""
        starts = range(0, len(data), self.micro_batch_size)
        for index, start in enumerate(starts):
            self._queues[0].put(_Job(index, data[start : start + self.micro_batch_size]))
        # All of them are awaited even when one failed, or it would turn up in the next batch.
        done = sorted((self._queues[-1].get() for _ in starts), key=lambda job: job.index)
        for job in done:
            if job.error is not None:
                raise job.error
        return [item for job in done for item in job.data]

    def __call__(self, data: list[Any], context: Any) -> Any:
        """Handle a batch as `BaseHandler.handle` does, its steps in micro-batches."""
        start = time.perf_counter()
        self.handler.context = context
        output = self._run(data)
        context.metrics.add_time("HandlerTime", round((time.perf_counter() - start) * 1000, 2), None, "ms")
        return output

    def _run(self, data: list[Any]) -> Any:
        if os.environ.get("ENABLE_TORCH_PROFILER"):
            return self.handler._infer_with_profiler(data=data)[0]
        if self.handler._is_describe():
            return [self.handler.describe_handle()]
        if self.handler._is_explain():
            return self.handler.explain_handle(self.handler.preprocess(data), data)
        return self.handle(data)

    def _scale(self, position: int, step: str, threads: int) -> None:
        group = self.thread_groups[step]
        while len(group) < threads:
            group.append(self._start(position, getattr(self.handler, step)))
        if len(group) > threads:
            surplus, group[threads:] = group[threads:], []
            _stop(surplus, wait=True)

    def _start(self, position: int, step: Callable[[Any], Any]) -> WorkerThread:
        event = threading.Event()
        source, sink = self._queues[position : position + 2]
        # The thread knows the queues but not this object, which could otherwise never be collected.
        arguments = (source, sink, step, self.thread_local_data, event)
        thread = threading.Thread(target=_work, args=arguments, daemon=True)
        thread.start()
        return WorkerThread(event, thread)


def _stop(threads: list[WorkerThread], wait: bool) -> None:
    for worker in threads:
        worker.event.set()
    for worker in threads:
        if wait and worker.thread is not threading.current_thread():
            worker.thread.join()


def _work(
    source: queue.Queue[_Job],
    sink: queue.Queue[_Job],
    step: Callable[[Any], Any],
    thread_data: threading.local,
    stop: threading.Event,
) -> None:
    while not stop.is_set():
        try:
            job = source.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if job.error is None:
            thread_data.micro_batch_idx = job.index
            try:
                job.data = step(job.data)
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked
                job.error = error
        sink.put(job)
