"""One loaded model in a worker: runs batches through its handler, and keeps their requests apart."""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
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
from predictor.handlers.parameters import AnswerParameters, Parameter
from predictor.handlers.signature import SignatureHandler
from predictor.handlers.stopwatch import Stage, Stopwatch
from predictor.ipc.messages import Envelope, InferenceRequest, InferenceResult, ModelInfo, Verb
from predictor.runtime.cloudevents import STRUCTURED_TYPE
from predictor.runtime.envelopes import Decoded, decode, encode
from predictor.runtime.explaining import RowExplainer
from predictor.runtime.loader import EntryPoint, LoadedHandler
from predictor.runtime.parts import PartSender, SendPart
from predictor.runtime.wire import wire_headers, wire_status, wire_text

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
        stateful: bool = False,
        bare_instances: bool = False,
    ) -> None:
        """Serve `handler`, whose batches see `context`.

        Args:
            decode_input: whether JSON and text bodies are decoded on TorchServe's routes.
            max_response_size: bytes that one answer may have.
            stateful: the handler keeps state between requests, so a call must not be repeated.
            bare_instances: rows on V1 are the instances as they came, as TorchServe's envelope gave them.
            enveloped: the handler inside the envelope that TorchServe's routes go through, if any.
        """
        self.handler = handler
        self.context = context
        self.parts = PartSender()
        self.stopwatch = context.stopwatch = Stopwatch()
        context.cl_socket = self.parts
        self._stateful = stateful
        self._bare_instances = bare_instances
        self._enveloped = enveloped or handler.entry_point
        self._decode_input = decode_input
        self._max_response_size = max_response_size
        native = handler.instance if isinstance(handler.instance, SignatureHandler) else None
        self._signature = native.signature if native else None
        self._copies_tables = native is not None and type(native).handle is SignatureHandler.handle
        self._explainer: RowExplainer | None = None
        if native:
            self.info = native.info()
        else:
            self._explainer = RowExplainer(handler, context)
            self.info = ModelInfo(handler=handler.name, explain=self._explainer.foreign.describe())

    def run(
        self,
        requests: Sequence[InferenceRequest],
        send_part: SendPart,
        progress: Callable[[], None] = lambda: None,
    ) -> list[InferenceResult]:
        """Answer requests of one verb and envelope, in their order.

        Args:
            requests: those of one batch.
            send_part: called with a request's position and a part of its answer that is sent ahead.
            progress: called before the handler is called once more for the same batch.
        """
        results: list[InferenceResult | None] = [None] * len(requests)
        self.parts.sent.clear()
        self._run(requests, range(len(requests)), results, send_part, progress)
        return [result if result is not None else failure(HandlerFailed("no answer")) for result in results]

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Keep all that belongs to the batch that runs, while others are run between two of its passes."""
        context = self.context
        parts, stopwatch = self.parts, self.stopwatch
        ids, processors = context.request_ids, context.request_processor
        self.parts = context.cl_socket = PartSender()
        self.stopwatch = context.stopwatch = Stopwatch()
        started = time.monotonic()
        try:
            yield
        finally:
            self.parts = context.cl_socket = parts
            self.stopwatch = context.stopwatch = stopwatch
            context.request_ids, context.request_processor = ids, processors
            if context.metrics is not None and ids is not None:
                context.metrics.set_request_ids(ids)
            stopwatch.skip(time.monotonic() - started)

    def copies_body(self, request: InferenceRequest) -> bool:
        """Return whether nothing that is computed from a request refers to its body afterwards.

        A handler may keep whatever it is given; ours copies a request's tensors before the model sees them.
        """
        by_tables = self._signature is not None and request.envelope is Envelope.V2
        return by_tables and self._copies_tables and request.verb is Verb.PREDICT

    def decode(self, request: InferenceRequest) -> Decoded:
        """Turn the body of one request into rows.

        Raises:
            InvalidInput: it does not fit the protocol.
        """
        return decode(request, self._signature, self._decode_input, self._bare_instances)

    def decode_or_fail(self, request: InferenceRequest) -> Decoded | InferenceResult:
        """Turn the body of one request into rows, or into the answer that says why it cannot be."""
        try:
            return self.decode(request)
        except PredictorError as error:
            return failure(error)
        except Exception as error:  # noqa: BLE001 - whatever a body provokes is its request's error alone
            return failure(self.translate(error, [request.request_id]))

    def _run(
        self,
        requests: Sequence[InferenceRequest],
        positions: Sequence[int],
        results: list[InferenceResult | None],
        send_part: SendPart,
        progress: Callable[[], None],
    ) -> None:
        """Fill in `results` for some of the requests, halving them while they fail together.

        They are decoded anew for each call, because a handler may have changed the rows it was given.
        """
        self.stopwatch.enter(Stage.DECODE)
        decoded: list[tuple[int, Decoded]] = []
        for position in positions:
            item = self.decode_or_fail(requests[position])
            if isinstance(item, Decoded):
                decoded.append((position, item))
            else:
                results[position] = item
        if not decoded:
            return
        try:
            answers, processors = self.call(requests, decoded, send_part)
        except PredictorError as error:
            if len(decoded) == 1 or self.parts.sent or self._stateful:
                for position, _ in decoded:
                    results[position] = failure(error)
                return
            left = [position for position, _ in decoded]
            for half in (left[: len(left) // 2], left[len(left) // 2 :]):
                progress()
                self._run(requests, half, results, send_part, progress)
            return
        start = 0
        for position, item in decoded:
            end = start + len(item.rows)
            results[position] = self.result(
                requests[position], item, answers[start:end], processors[start:end]
            )
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
        processors = []
        for _, item in decoded:
            headers = dict(item.headers)
            processors += [RequestProcessor(headers) for _ in item.rows]
        ids = [requests[position].request_id for position, item in decoded for _ in item.rows]
        context = self.context
        context.request_ids = dict(enumerate(ids))
        context.request_processor = processors
        torchserve = requests[decoded[0][0]].envelope is Envelope.TORCHSERVE
        owners = [position for position, item in decoded for _ in item.rows]
        self.parts.begin(owners, ids, send_part if torchserve else None)
        if context.metrics is not None:
            context.metrics.set_request_ids(context.request_ids)
        enveloped = torchserve and requests[decoded[0][0]].verb is not Verb.DESCRIBE
        entry_point = self._enveloped if enveloped else self.handler.entry_point
        self.stopwatch.enter(Stage.INFERENCE)
        try:
            if self._explainer is not None and requests[decoded[0][0]].verb is Verb.EXPLAIN:
                answers = self._explainer.answer(entry_point, rows, processors)
            else:
                answers = entry_point(rows, context)
        except PredictorError:
            raise
        except BaseException as error:
            raise self.translate(error, ids) from error
        finally:
            self.stopwatch.enter(Stage.ENCODE)
            self.parts.end()
        if not isinstance(answers, list):
            raise InvalidOutput("Invalid model predict output")
        if len(answers) != len(rows):
            raise InvalidOutput("number of batch response mismatched")
        return self.parts.join(answers) if self.parts.held else answers, processors

    def translate(self, error: BaseException, ids: Sequence[str]) -> PredictorError:
        """Say for the client what the handler's exception means, and for the operator all of it."""
        if type(error).__name__ == "PredictionException":
            code = getattr(error, "error_code", 500)
            return HandlerStatus(str(getattr(error, "message", error)), wire_status(code, 500))
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
        self,
        request: InferenceRequest,
        item: Decoded,
        answers: list[Any],
        processors: Sequence[RequestProcessor],
    ) -> InferenceResult:
        """Encode the handler's answers to one request, with what it chose to go with them.

        Args:
            processors: one for each row; the first one's status and headers count.
        """
        processor = processors[0]
        try:
            parameters = merged_parameters(processors)
            body, headers = encode(request, item, answers, self._signature is not None, parameters)
            if len(body) > self._max_response_size:
                raise ResponseTooLarge(
                    f"the answer has {len(body)} bytes, more than max_response_size allows"
                )
        except PredictorError as error:
            return failure(error)
        except Exception as error:
            logger.error("request %s: its answer cannot be sent", request.request_id, exc_info=error)
            return failure(InvalidOutput("Unsupported model output data type."))
        chosen = wire_headers(processor.get_response_headers())
        if ("content-type", STRUCTURED_TYPE) in headers:  # what the handler says is true of the data only
            chosen = [(name, value) for name, value in chosen if name.lower() != "content-type"]
        elif any(name.lower() == "content-type" for name, _ in chosen):
            headers = [(name, value) for name, value in headers if name != "content-type"]
        return InferenceResult(
            status=wire_status(processor.get_response_status_code(), 200),
            phrase=wire_text(processor.get_response_status_phrase() or ""),
            headers=headers + chosen,
            body=body,
        )


def merged_parameters(processors: Sequence[RequestProcessor]) -> AnswerParameters:
    """Return what the rows of one request have set; of two values of a parameter the later row's counts."""
    merged: dict[str, dict[str, Parameter]] = {}
    for processor in processors:
        for output, parameters in processor.get_response_parameters().items():
            merged.setdefault(output, {}).update(parameters)
    return merged


def failure(error: PredictorError) -> InferenceResult:
    """Return the answer that carries `error` to the front end."""
    return InferenceResult(status=error.status, error=type(error).__name__, message=wire_text(error.message))


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
