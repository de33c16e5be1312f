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
from predictor.ipc.messages import Envelope, InferenceRequest, InferenceResult, ModelInfo
from predictor.runtime.envelopes import Decoded, decode, encode
from predictor.runtime.loader import EntryPoint, LoadedHandler
from predictor.runtime.parts import PartSender, SendPart

logger = logging.getLogger(__name__)


class Service:
    """Answers batches of requests with one handler.

    A request that cannot be decoded is answered alone. When the handler raises for a batch, the batch
    is cut in half and each half run by itself, until the requests that make it fail stand alone: their
    neighbours get their answers.
    """

    def __init__(
        self,
        handler: LoadedHandler,
        context: Context,
        *,
        decode_input: bool,
        max_response_size: int,
        enveloped: EntryPoint | None = None,
    ) -> None:
        """Serve `handler`, whose batches see `context`.

        Args:
            decode_input: whether JSON and text bodies are decoded on TorchServe's routes.
            max_response_size: bytes that one answer may have.
            enveloped: the handler inside the envelope that TorchServe's routes go through, if any.
        """
        self.handler = handler
        self.context = context
        self.parts = PartSender()
        context.cl_socket = self.parts
        self._enveloped = enveloped or handler.entry_point
        self._decode_input = decode_input
        self._max_response_size = max_response_size
        native = handler.instance if isinstance(handler.instance, SignatureHandler) else None
        self._signature = native.signature if native else None
        self.info = native.info() if native else ModelInfo(handler=handler.name)

    def run(self, requests: Sequence[InferenceRequest], send_part: SendPart) -> list[InferenceResult]:
        """Answer requests of one verb and envelope, in their order.

        Args:
            send_part: called with a request's position and a part of its answer that is sent ahead.
        """
        results: list[InferenceResult | None] = [None] * len(requests)
        decoded: list[tuple[int, Decoded]] = []
        for position, request in enumerate(requests):
            try:
                decoded.append((position, self.decode(request)))
            except PredictorError as error:
                results[position] = failure(error)
            except Exception as error:  # noqa: BLE001 - whatever a body provokes is its request's error alone
                results[position] = failure(self._translate(error, [request.request_id]))
        self.parts.sent.clear()
        if decoded:
            self._run(requests, decoded, results, send_part)
        return [result if result is not None else failure(HandlerFailed("no answer")) for result in results]

    def decode(self, request: InferenceRequest) -> Decoded:
        """Turn the body of one request into rows.

        Raises:
            InvalidInput: it does not fit the protocol.
        """
        return decode(request, self._signature, self._decode_input)

    def _run(
        self,
        requests: Sequence[InferenceRequest],
        decoded: Sequence[tuple[int, Decoded]],
        results: list[InferenceResult | None],
        send_part: SendPart,
    ) -> None:
        """Fill in `results` for the decoded requests, halving the batch while it fails."""
        try:
            answers, processors = self.call(requests, decoded, send_part)
        except PredictorError as error:
            if len(decoded) > 1 and not self.parts.sent:
                middle = len(decoded) // 2
                self._run(requests, decoded[:middle], results, send_part)
                self._run(requests, decoded[middle:], results, send_part)
            else:
                for position, _ in decoded:
                    results[position] = failure(error)
            return
        start = 0
        for position, item in decoded:
            end = start + len(item.rows)
            results[position] = self.result(requests[position], item, answers[start:end], processors[start])
            start = end

    def call(
        self,
        requests: Sequence[InferenceRequest],
        decoded: Sequence[tuple[int, Decoded]],
        send_part: SendPart,
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
        torchserve = requests[decoded[0][0]].envelope is Envelope.TORCHSERVE
        owners = [position for position, item in decoded for _ in item.rows]
        self.parts.begin(owners, send_part if torchserve else None)
        if context.metrics is not None:
            context.metrics.set_request_ids(context.request_ids)
        entry_point = self._enveloped if torchserve else self.handler.entry_point
        try:
            answers = entry_point(rows, context)
        except PredictorError:
            raise
        except (Exception, SystemExit) as error:
            raise self._translate(error, ids) from error
        if not isinstance(answers, list):
            raise InvalidOutput("Invalid model predict output")
        if len(answers) != len(rows):
            raise InvalidOutput("number of batch response mismatched")
        return self.parts.join(answers) if self.parts.held else answers, processors

    def _translate(self, error: BaseException, ids: Sequence[str]) -> PredictorError:
        """Say for the client what the handler's exception means, and for the operator all of it."""
        if type(error).__name__ == "PredictionException":
            code = getattr(error, "error_code", 500)
            return HandlerStatus(str(getattr(error, "message", error)), _status(code, 500))
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

    def result(
        self, request: InferenceRequest, item: Decoded, answers: list[Any], processor: RequestProcessor
    ) -> InferenceResult:
        """Encode the handler's answers to one request, with the status and headers it chose."""
        try:
            body, headers = encode(request, item, answers, self._signature is not None)
            if len(body) > self._max_response_size:
                raise ResponseTooLarge(
                    f"the answer has {len(body)} bytes, more than max_response_size allows"
                )
        except PredictorError as error:
            return failure(error)
        except Exception as error:
            logger.error("request %s: its answer cannot be sent", request.request_id, exc_info=error)
            return failure(InvalidOutput("Unsupported model output data type."))
        chosen = [(_text(name), _text(value)) for name, value in processor.get_response_headers().items()]
        if any(name.lower() == "content-type" for name, _ in chosen):
            headers = []
        return InferenceResult(
            status=_status(processor.get_response_status_code(), 200),
            phrase=_text(processor.get_response_status_phrase() or ""),
            headers=headers + chosen,
            body=body,
        )


def failure(error: PredictorError) -> InferenceResult:
    """Return the answer that carries `error` to the front end."""
    return InferenceResult(status=error.status, error=type(error).__name__, message=_text(error.message))


def _text(value: object) -> str:
    """Return text that can travel: a lone surrogate, which JSON may smuggle in, cannot."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _status(value: object, default: int) -> int:
    """Return an HTTP status from what a handler chose, which may be any kind of number or a text."""
    try:
        status = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return default
    return status if 200 <= status <= 599 else default


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
