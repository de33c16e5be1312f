"""Rows of requests for explanations of handlers that are not ours: theirs to answer, or explained here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from predictor.errors import InvalidInput, InvalidOutput, PredictorError
from predictor.explain.foreign import ForeignExplainer
from predictor.explain.joined import WishfulRows
from predictor.handlers.context import Context, RequestProcessor
from predictor.runtime.loader import EntryPoint, LoadedHandler


class RowExplainer:
    """Answers the rows of one handler.

    Attributes:
        foreign: what explains the handler where it knows nothing of that.
    """

    def __init__(self, handler: LoadedHandler, context: Context) -> None:
        """Prepare for `handler`, whose batches see `context`."""
        self._handler = handler
        self._context = context
        limits = (context.explain_timeout, context.explain_max_rows)
        settings = context.model_yaml_config or {}
        self.foreign = ForeignExplainer(handler.instance, self._predict, settings, *limits)

    def answer(
        self, entry_point: EntryPoint, rows: list[Any], processors: list[RequestProcessor]
    ) -> list[Any]:
        """Answer rows: those with an `explain` object here, the others by the handler.

        Args:
            entry_point: the handler, in its envelope if it has one; then everything is its business.

        Raises:
            InvalidInput: a batch holds both kinds.
            Exception: whatever the handler raises.
        """
        accepts = [_header(processor, "accept") for processor in processors]
        pairs = list(zip(rows, accepts, strict=True))
        rich = entry_point is self._handler.entry_point and [self._is_rich(*pair) for pair in pairs]
        if not rich or not any(rich):
            answers: list[Any] = entry_point(rows, self._context)
            return answers
        if not all(rich):
            raise InvalidInput("'explain' must be given for every instance of a request, or for none")
        ids = self._context.request_ids
        try:
            return [self._explain(*pair) for pair in pairs]
        finally:
            self._context.request_ids, self._context.request_processor = ids, processors

    def _is_rich(self, row: Any, accept: str) -> bool:
        return isinstance(row, WishfulRows) or self.foreign.wants(row, accept)

    def _explain(self, row: Any, accept: str) -> Any:
        try:
            if isinstance(row, WishfulRows):
                return self.foreign.explain_tensors(row)
            return self.foreign.explain(row, accept)
        except PredictorError as error:
            return error

    def _predict(self, rows: Sequence[Any]) -> list[Any]:
        """Let the handler answer rows that no client has sent, in batches of its size."""
        context = self._context
        size = max(1, int(context.system_properties.get("batch_size") or 1))
        answers: list[Any] = []
        for start in range(0, len(rows), size):
            part = [dict(row) for row in rows[start : start + size]]
            context.request_ids = {index: f"variant-{start + index}" for index in range(len(part))}
            context.request_processor = [RequestProcessor({"explain": "False"}) for _ in part]
            found = self._handler.entry_point(part, context)
            if not isinstance(found, list) or len(found) != len(part):
                raise InvalidOutput("number of batch response mismatched")
            answers += found
        return answers


def _header(processor: RequestProcessor, wanted: str) -> str:
    headers = processor.get_request_properties()
    return next((str(value) for name, value in headers.items() if str(name).lower() == wanted), "")
