"""What a worker has been sent and has not answered."""

from __future__ import annotations

import time

from predictor.serving.job import Job


class SentBatch:
    """Jobs that a worker holds.

    Attributes:
        id: under which it answers them.
        jobs: in their order.
        timeout: seconds that it may take for them.
        taken_at: when they left the queue, by `time.monotonic`, which workers measure with; the loop's own
            time counts in milliseconds.
        filling_since: since when, by that clock, a free worker had waited for more of them; 0 if none had.
        blocks: copies of their bodies in the arena, which stay there as long as this does.
        gives_way: they are explanations, between whose passes the worker answers what is sent behind them.
    """

    __slots__ = ("blocks", "filling_since", "gives_way", "id", "jobs", "taken_at", "timeout")

    def __init__(self, batch_id: int, jobs: list[Job], timeout: float) -> None:
        """Remember that `jobs` travel as batch `batch_id`, which may take `timeout` seconds."""
        self.id = batch_id
        self.jobs = jobs
        self.timeout = timeout
        self.taken_at = time.monotonic()
        self.filling_since = 0.0
        self.blocks: list[memoryview] = []
        self.gives_way = False
