"""The place between two passes of an explanation where whoever waits for the same process may go first."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import time
from collections.abc import Callable, Iterator

import torch

from predictor.explain.precision import precision_outside

# Lets others run; called with the seconds that the explanation has had to itself since it was last called.
LetOthers = Callable[[float], None]


@dataclasses.dataclass
class _Turn:
    """One explanation's, or that of a batch of them.

    Attributes:
        others: None for nobody.
        since: monotonic time of its last return, in seconds.
        given: seconds that it took so far.
    """

    others: LetOthers | None
    since: float
    given: float = 0.0


_turn: contextvars.ContextVar[_Turn | None] = contextvars.ContextVar("turn", default=None)


@contextlib.contextmanager
def giving_way(others: LetOthers | None) -> Iterator[None]:
    """Call `others` between the passes of the explanations inside; None for nobody."""
    token = _turn.set(_Turn(others, time.monotonic()))
    try:
        yield
    finally:
        _turn.reset(token)


@contextlib.contextmanager
def keeping_turn() -> Iterator[None]:
    """Let nobody between the passes of the explanation inside."""
    turn = _turn.get()
    others = turn.others if turn else None
    if turn:
        turn.others = None
    try:
        yield
    finally:
        if turn:
            turn.others = others


def give_way() -> None:
    """Let others run, if there are any: called before each pass."""
    turn = _turn.get()
    if turn is None or turn.others is None:
        return
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        # Passes are only queued there: others would run behind all of them, not behind one.
        torch.cuda.current_stream().synchronize()
    started = time.monotonic()
    turn.others(started - turn.since)
    turn.since = time.monotonic()
    turn.given += turn.since - started


def given_away() -> float:
    """Return the seconds that others have had since `giving_way` began."""
    turn = _turn.get()
    return turn.given if turn else 0.0


@contextlib.contextmanager
def as_before_explaining() -> Iterator[None]:
    """Give PyTorch the modes in which a thread starts: an explanation may be suspended in any other."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(precision_outside())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
