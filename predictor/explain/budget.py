"""What an explanation may cost, and what it has cost: rows through the model, memory, time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

import numpy as np
import torch

from predictor.errors import HandlerStatus, WorkTooLarge
from predictor.explain.giving_way import give_way, given_away

# Numbers in one pass: 8 pictures of 3 x 224 x 224, 1600 of 28 x 28. With 4 a ResNet-18 took 9 % longer, since
# each pass reorders the weights; more only took more memory. A GPU wants many more.
_CPU_NUMBERS = 1_280_000
_CUDA_NUMBERS = 20_000_000
_MAX_ROWS_PER_PASS = 8192
# Input numbers in one explanation, and rows that are always allowed: 425 rows of such a picture.
_MAX_NUMBERS = 64_000_000
_ALWAYS_ALLOWED_ROWS = 256


@dataclasses.dataclass(frozen=True)
class Limits:
    """The operator's limits; None leaves the choice to the sizes of the inputs and the device.

    Attributes:
        rows_per_pass: rows that go through the model at once, which bounds memory.
        max_rows: rows that one explanation may take.
        seconds: time for all explanations of one batch; 0 for no limit.
    """

    rows_per_pass: int | None = None
    max_rows: int | None = None
    seconds: float = 0.0

    def allow(self, rows: int, numbers: int, where: str) -> None:
        """Check the rows that one explanation will take.

        Args:
            numbers: in one row of the inputs.
            where: what to change, for the message.

        Raises:
            WorkTooLarge: they are too many.
        """
        limit = self.max_rows or max(_ALWAYS_ALLOWED_ROWS, _MAX_NUMBERS // max(1, numbers))
        if rows > limit:
            raise WorkTooLarge(
                f"This explanation would send {rows} rows through the model; the limit is {limit}. "
                f"Change {where}"
            )


class Budget:
    """Counts the rows of one batch of explanations and ends it when its time is over.

    Attributes:
        forward: rows that each example sent through the model, int64 [examples].
        backward: rows that came back with gradients, likewise.
    """

    def __init__(self, limits: Limits, examples: int, started: float | None = None) -> None:
        """Count for `examples` examples; `started` is the monotonic time at which the clock began."""
        self._limits = limits
        self._started = time.monotonic() if started is None else started
        self.forward = np.zeros(examples, dtype=np.int64)
        self.backward = np.zeros(examples, dtype=np.int64)

    def chunks(self, rows: int, numbers: int, device: torch.device) -> Iterator[slice]:
        """Cut `rows` rows of `numbers` numbers each into passes."""
        size = self.rows_per_pass(numbers, device)
        for start in range(0, rows, size):
            yield slice(start, min(rows, start + size))

    def rows_per_pass(self, numbers: int, device: torch.device) -> int:
        """Return how many rows of `numbers` numbers go through the model at once."""
        if self._limits.rows_per_pass:
            return self._limits.rows_per_pass
        room = _CUDA_NUMBERS if device.type == "cuda" else _CPU_NUMBERS
        return max(1, min(_MAX_ROWS_PER_PASS, room // max(1, numbers)))

    def spend(self, owners: torch.Tensor, backward: int = 0) -> None:
        """Note that a row of each of the examples `owners` goes forward, and `backward` times back.

        Called before each pass; whoever waits for this process may go first.

        Raises:
            HandlerStatus: 504, the time is over.
        """
        counts = np.bincount(owners.numpy(), minlength=len(self.forward))
        self.forward += counts
        self.backward += counts * backward
        give_way()
        limit = self._limits.seconds
        if limit and time.monotonic() - self._started - given_away() > limit:
            raise HandlerStatus(
                f"The explanation was stopped after {limit:g} s; ask for fewer steps or samples, or raise "
                "the model's explain.timeout",
                504,
            )
