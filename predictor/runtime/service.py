"""One loaded model in a worker: runs batches through its handler, and keeps their requests apart."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from typing import Any

from predictor.errors import (
    HandlerFailed,
    HandlerStatus,
    InvalidOutput,
    OutOfResources,
    PredictorError,
    ResponseTooLarge,
)
from predictor.handlers.context import Context, RequestProcessor
from predictor.handlers.signature import SignatureHandler
from predictor.ipc.messages import InferenceRequest, InferenceResult, ModelInfo
from predictor.runtime.envelopes import Decoded, decode, encode
from predictor.runtime.loader import LoadedHandler

logger = logging.getLogger(__name__)


class Service:
    """Answers batches of requests with one handler.

    A request that cannot be decoded is answered alone. When the handler raises for a batch, the batch
    is cut in half and each half run by itself, until the requests that make it fail stand alone: their
    neighbours get their answers.
    """

    def __init__(
        self, handler: LoadedHandler, context: Context, *, decode_input: bool, max_response_size: int
    ) -> None:
        """Serve `handler`, whose batches see `context`.

        Args:
            decode_input: whether JSON and text bodies are decoded on TorchServe's routes.
            max_response_size: bytes that one answer may have.
        """
        self.handler = handler
        self.context = context
        self._decode_input = decode_input
        self._max_response_size = max_response_size
        native = handler.instance if isinstance(handler.instance, SignatureHandler) else None
        self._signature = native.signature if native else None
        self.info = native.info() if native else ModelInfo(handler=handler.name)

    def run(self, requests: Sequence[InferenceRequest]) -> list[InferenceResult]:
        """Answer requests of one verb and envelope, in their order."""
        results: list[InferenceResult | None] = [None] * len(requests)
        decoded: list[tuple[int, Decoded]] = []
        for position, request in enumerate(requests):
            try:
                decoded.append((position, decode(request, self._signature, self._decode_input)))
            except PredictorError as error:
                results[position] = _failure(error)
        if decoded:
            self._run(requests, decoded, results)
        return [result if result is not None else _failure(HandlerFailed("no answer")) for result in results]

    def _run(
        self,
        requests: Sequence[InferenceRequest],
        decoded: Sequence[tuple[int, Decoded]],
        results: list[InferenceResult | None],
    ) -> None:
        """Fill in `results` for the decoded requests, halving the batch while it fails."""
        try:
            answers, processors = self._call(requests, decoded)
        except PredictorError as error:
            if len(decoded) > 1:
                middle = len(decoded) // 2
                self._run(requests, decoded[:middle], results)
                self._run(requests, decoded[middle:], results)
            else:
                results[decoded[0][0]] = _failure(error)
            return
        start = 0
        for position, item in decoded:
            end = start + len(item.rows)
            results[position] = self._result(requests[position], item, answers[start:end], processors[start])
            start = end

    def _call(
        self, requests: Sequence[InferenceRequest], decoded: Sequence[tuple[int, Decoded]]
    ) -> tuple[list[Any], list[RequestProcessor]]:
        """Call the handler once for all rows and check the form of what it returns.

        Raises:
            PredictorError: it raised, or its answer does not match the rows.
        """
        rows = [row for _, item in decoded for row in item.rows]
        processors = [RequestProcessor(dict(item.headers)) for _, item in decoded for _ in item.rows]
        ids = [requests[position].request_id for position, item in decoded for _ in item.rows]
        context = self.context
        context.request_ids = dict(enumerate(ids))
        context.request_processor = processors
        try:
            answers = self.handler.entry_point(rows, context)
        except PredictorError:
            raise
        except (Exception, SystemExit) as error:
            raise self._translate(error, ids) from error
        if not isinstance(answers, list):
            raise InvalidOutput("Invalid model predict output")
        if len(answers) != len(rows):
            raise InvalidOutput("number of batch response mismatched")
        return answers, processors

    def _translate(self, error: BaseException, ids: Sequence[str]) -> PredictorError:
        """Say for the client what the handler's exception means, and for the operator all of it."""
        if type(error).__name__ == "PredictionException":
            message = str(getattr(error, "message", error))
            return HandlerStatus(message, int(getattr(error, "error_code", 500)))
        logger.error(
            "model %s: the handler failed for %s",
            self.context.model_name,
            ", ".join(ids),
            exc_info=error,
        )
        if isinstance(error, MemoryError) or "CUDA" in str(error) or "out of memory" in str(error):
            _free_memory()
            return OutOfResources(f"model '{self.context.model_name}' ran out of memory")
        return HandlerFailed(f"model '{self.context.model_name}' failed: {type(error).__name__}")

    def _result(
        self, request: InferenceRequest, item: Decoded, answers: list[Any], processor: RequestProcessor
    ) -> InferenceResult:
        try:
            body, headers = encode(request, item, answers, self._signature is not None)
            if len(body) > self._max_response_size:
                raise ResponseTooLarge(
                    f"the answer has {len(body)} bytes, more than max_response_size ({self._max_response_size})"
                )
        except PredictorError as error:
            return _failure(error)
        chosen = [(name, str(value)) for name, value in processor.get_response_headers().items()]
        if any(name.lower() == "content-type" for name, _ in chosen):
            headers = []
        return InferenceResult(
            status=processor.get_response_status_code(),
            phrase=processor.get_response_status_phrase() or "",
            headers=headers + chosen,
            body=body,
        )


def _failure(error: PredictorError) -> InferenceResult:
    return InferenceResult(status=error.status, error=type(error).__name__, message=error.message)


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
