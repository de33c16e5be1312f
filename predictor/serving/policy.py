"""How one model version is served: every limit and time, resolved from all the places that set it."""

from __future__ import annotations

import dataclasses

from predictor.serving.sequences import SequencePolicy

_NOT_NEGATIVE = ("min_workers", "max_batch_delay", "client_timeout", "prefetch", "threads")


@dataclasses.dataclass(frozen=True)
class ServingPolicy:
    """The resolved numbers of one model version.

    Attributes:
        min_workers: processes that must live; fewer for longer than `max_retry_timeout` is unhealthy.
        max_workers: processes that may live.
        batch_size: requests that share one call of the handler, at most.
        max_batch_delay: seconds that the first request of a batch waits for others while a worker is
            free; 0 sends whatever waits, at once.
        queue_size: requests that wait, at most; one more is refused with 503.
        response_timeout: seconds that the handler may take for one batch; then its worker is replaced.
        startup_timeout: seconds that loading may take.
        max_retry_timeout: seconds during which a dying worker is restarted before it is given up.
        client_timeout: seconds from a request's arrival after which it is not started any more; 0 = none.
        prefetch: batches that a busy worker is given ahead, so that it never waits for the front end.
        gpu_ids: CUDA devices, used in turn; empty for the CPU.
        threads: torch's intra-op threads in each worker; 0 leaves torch's choice.
        job_tickets: a request is refused unless a worker is free for it (`useJobTicket`).
        continuous: the worker keeps `batch_size` requests alive and calls the handler with all of them
            again and again, each until its stopping criterion says so.
        sequences: limits of a stateful model; None for others.
        explain_workers: processes that only explain; 0 lets explanations share the workers.
        explain_queue_size: explanations that wait, at most; 0 means `queue_size`.
        explain_timeout: seconds that the handler may take for one batch of explanations; 0 means
            `response_timeout`.
        explain_max_rows: rows that one explanation may send through the model, of a model that does not
            say; 0 leaves it to the size of its input.
        explain_on_cpu: workers that only explain use no GPU.
        niceness: added to the workers' own; the higher, the more they give way to other processes.
    """

    min_workers: int = 1
    max_workers: int = 1
    batch_size: int = 1
    max_batch_delay: float = 0.0
    queue_size: int = 100
    response_timeout: float = 120.0
    startup_timeout: float = 120.0
    max_retry_timeout: float = 300.0
    client_timeout: float = 0.0
    prefetch: int = 1
    gpu_ids: tuple[int, ...] = ()
    threads: int = 0
    job_tickets: bool = False
    continuous: bool = False
    sequences: SequencePolicy | None = None
    explain_workers: int = 0
    explain_queue_size: int = 0
    explain_timeout: float = 0.0
    explain_max_rows: int = 0
    explain_on_cpu: bool = False
    niceness: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no server can keep.

        Raises:
            ValueError: names the field.
        """
        for name in ("batch_size", "queue_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (*_NOT_NEGATIVE, "explain_workers", "explain_queue_size", "explain_timeout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.max_workers < self.min_workers:
            raise ValueError(f"max_workers ({self.max_workers}) is below min_workers ({self.min_workers})")
