"""Continuous batching: the handler is called again and again with the requests that are alive.

TorchServe's `continuousBatching`: after each call a request ends when the criterion that the handler
put into `context.stopping_criteria` says so about its answer; until then each answer is one part of the
response. New requests join between two calls.
"""

from __future__ import annotations

import time
from typing import Any

from predictor.errors import InvalidInput, PredictorError
from predictor.handlers.context import RequestProcessor
from predictor.ipc.messages import Batch, Cancel, Chunk, Envelope, InferenceResult, Results, Timing
from predictor.runtime.envelopes import Decoded
from predictor.runtime.parts import STREAM_HEADER, join_parts
from predictor.runtime.service import Service, failure


class _Live:
    """A request between two calls of the handler."""

    __slots__ = ("answers", "batch", "decoded", "started")

    def __init__(self, batch: Batch, decoded: Decoded) -> None:
        self.batch = batch
        self.decoded = decoded
        self.answers: list[object] = []
        self.started = time.monotonic()

    def timing(self) -> Timing:
        """Return what the request has taken until now, all of it counted as inference."""
        return Timing(self.started, 0.0, time.monotonic() - self.started, 0.0)


class ContinuousBatcher:
    """Keeps requests alive until they are done; each comes as a batch of one."""

    def __init__(self, service: Service) -> None:
        """Call the handler of `service`."""
        self._service = service
        self._live: list[_Live] = []

    def __bool__(self) -> bool:
        """Return whether there is a request to go on with."""
        return bool(self._live)

    def add(self, batch: Batch) -> Results | None:
        """Let a request join; returns its answer if it cannot be decoded."""
        decoded = self._service.decode_or_fail(batch.requests[0])
        if isinstance(decoded, Decoded) and len(decoded.rows) != 1:
            decoded = failure(InvalidInput("this model takes one instance in a request (continuousBatching)"))
        if not isinstance(decoded, Decoded):
            return Results(batch.id, [decoded])
        self._live.append(_Live(batch, decoded))
        return None

    def cancel(self, message: Cancel) -> Results | None:
        """Drop a request whose client has gone."""
        for live in self._live:
            if live.batch.id == message.batch_id:
                self._live.remove(live)
                return Results(message.batch_id, [None])
        return None

    def step(self) -> list[Chunk | Results]:
        """Call the handler once with every live request; returns what each of them gets."""
        requests = [live.batch.requests[0] for live in self._live]
        decoded = [(position, live.decoded) for position, live in enumerate(self._live)]
        try:
            answers, processors = self._service.call(requests, decoded, lambda position, part: None)
        except PredictorError as error:
            failed = [Results(live.batch.id, [failure(error)], live.timing()) for live in self._live]
            self._live.clear()
            return list(failed)
        messages: list[Chunk | Results] = []
        alive: list[_Live] = []
        for position, live in enumerate(self._live):
            message = self._advance(live, position, answers[position], processors[position])
            if not isinstance(message, Results):
                alive.append(live)
            if message is not None:
                messages.append(message)
        self._live = alive
        return messages

    def _advance(
        self, live: _Live, position: int, answer: object, processor: RequestProcessor
    ) -> Chunk | Results | None:
        """Return what one request gets after a call: a part or its end; None where there are no parts."""
        request = live.batch.requests[0]
        streams = request.envelope is Envelope.TORCHSERVE
        live.answers = [answer] if streams else [*live.answers, answer]
        try:
            done = self._is_done(position, answer)
        except Exception as error:  # noqa: BLE001 - the criterion is the handler's code
            failed = failure(self._service.translate(error, [request.request_id]))
            return Results(live.batch.id, [failed], live.timing())
        # TorchServe hands over what a request holds with the first call only.
        left = {name: value for name, value in live.decoded.headers.items() if not isinstance(value, dict)}
        decoded = live.decoded
        live.decoded = Decoded([{}], left, decoded.single, decoded.reply, decoded.event)
        if not done and not streams:
            return None
        result = self._service.result(request, live.decoded, [join_parts(live.answers)], [processor])
        return _message(live, result, done or bool(result.error))

    def _is_done(self, position: int, answer: object) -> bool:
        """Ask the criterion of a request; handlers give a list, or a dict by position."""
        criteria: Any = self._service.context.stopping_criteria
        try:
            criterion = criteria[position] if criteria else None
        except (LookupError, TypeError):
            criterion = None
        return criterion is None or bool(criterion(answer))


def _message(live: _Live, result: InferenceResult, done: bool) -> Chunk | Results:
    if done:
        return Results(live.batch.id, [result], live.timing())
    result.headers = [*result.headers, STREAM_HEADER]
    return Chunk(live.batch.id, 0, result)
