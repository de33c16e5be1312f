"""Parts of an answer that are sent before the rest of it is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from predictor.ipc.messages import InferenceResult
from predictor.runtime.wire import wire_headers, wire_status, wire_text

logger = logging.getLogger(__name__)

STREAM_HEADER = ("ts_stream_next", "true")

SendPart = Callable[[int, InferenceResult], None]


class PartSender:
    """What a handler finds as `context.cl_socket`: its way to the client while it still computes.

    Attributes:
        sent: positions of the requests that have been sent a part; they cannot be run again.
        held: parts by row, on protocols that cannot stream; they are joined to the final answer.
    """

    def __init__(self) -> None:
        """Start with nobody to send to."""
        self.sent: set[int] = set()
        self.held: dict[int, list[bytes]] = {}
        self._owners: list[int] = []
        self._ids: list[str] = []
        self._send: SendPart | None = None

    def begin(self, owners: list[int], ids: Sequence[str], send: SendPart | None) -> None:
        """Prepare for one call of the handler.

        Args:
            owners: for each row of the call, the position of its request in the batch.
            ids: for each row, the id of its request.
            send: called with that position and the part; None holds the parts back.
        """
        self.held = {}
        self._ids = list(ids)
        self._owners = owners
        self._send = send

    def end(self) -> None:
        """Take no more parts: a thread of the handler may still be at it when the call has returned."""
        self._ids = []

    def send_chunk(
        self, request_id: str, index: int, data: bytes, code: int, phrase: str, headers: Mapping[str, str]
    ) -> None:
        """Send `data` to the client of row `index`; status and headers count with its first part."""
        if not 0 <= index < len(self._ids) or self._ids[index] != request_id:
            logger.warning("a part for request %s came after its end, and is dropped", request_id)
            return
        if self._send is None:
            self.held.setdefault(index, []).append(data)
            return
        position = self._owners[index]
        self.sent.add(position)
        chosen = wire_headers(headers)
        self._send(position, InferenceResult(wire_status(code, 200), wire_text(phrase or ""), chosen, data))

    def join(self, answers: Sequence[object]) -> list[object]:
        """Return the final answers of all rows, each with the parts held back before it."""
        return [join_parts([*self.held.get(row, ()), answer]) for row, answer in enumerate(answers)]


def join_parts(parts: Sequence[object]) -> object:
    """Make one answer of many: text is joined, anything else becomes a list."""
    if len(parts) == 1:
        return parts[0]
    texts = [part.decode("utf-8", "replace") if isinstance(part, bytes) else part for part in parts]
    if all(isinstance(text, str) for text in texts):
        return "".join(str(text) for text in texts)
    return texts
