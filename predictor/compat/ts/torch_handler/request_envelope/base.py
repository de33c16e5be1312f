"""What every envelope does: unwrap the requests, call the handler, wrap its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any


class BaseEnvelope(ABC):
    """Stands between the server and a handler's `handle`.

    A request may hold several rows. The handler sees the rows of all requests of the batch as one list
    and answers one item per row; every request gets its own rows' items back.
    """

    def __init__(self, handle_fn: Callable[[Any, Any], Any]) -> None:
        """Wrap `handle_fn(data, context)`."""
        self._handle_fn = handle_fn
        self.context: Any = None

    def handle(self, data: Any, context: Any) -> Any:
        """Answer a batch; nothing is unwrapped or wrapped when there is nothing."""
        self.context = context
        results = self._handle_fn(self.parse_input(data) if data else data, context)
        return self.format_output(results) if results else results

    @abstractmethod
    def parse_input(self, data: Any) -> Any:
        """Return the rows in `data`, one dict per request."""

    @abstractmethod
    def format_output(self, data: Any) -> Any:
        """Return one answer per request from the handler's items."""


def split_rows(items: Any, lengths: Sequence[int]) -> list[Any]:
    """Cut `items` into pieces of `lengths`.

    A single request takes them all, however many. ValueError when several requests cannot be told apart.
    """
    if len(lengths) == 1:
        return [items]
    if len(items) != sum(lengths):
        raise ValueError(f"the handler answered {len(items)} items for {sum(lengths)} rows")
    pieces, start = [], 0
    for length in lengths:
        pieces.append(items[start : start + length])
        start += length
    return pieces
