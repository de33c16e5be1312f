"""Answers requests for explanations of a signature model: from rows to what clients get."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from predictor.errors import InvalidInput, PredictorError
from predictor.explain.batch import Asked, ExplainedBatch
from predictor.explain.budget import Limits
from predictor.explain.config import parse_config
from predictor.explain.explanation import Explanation
from predictor.explain.methods import METHODS
from predictor.explain.model import ExplainedModel
from predictor.explain.placing import placed
from predictor.explain.request import ExplainRequest, check_target, parse_request
from predictor.explain.result import RichAnswer, as_json, as_page, as_torchserve
from predictor.explain.tables import WishfulTable, as_table, document_of, in_words_of, wish_for_outputs
from predictor.explain.wishes import JSON, Wish, read_wish
from predictor.handlers.tensors import Table

if TYPE_CHECKING:
    from predictor.handlers.signature import SignatureHandler

# TorchServe's image handler: this many steps, and the first class unless the request names one.
_LEGACY_STEPS = 15
_LEGACY_TARGET = 0
# Of responseTimeout, after which the worker would be ended in the middle of it.
_SHARE_OF_TIMEOUT = 0.8
_DEFAULT_TIMEOUT = 120.0


class Explainer:
    """Explains the model of one handler.

    Attributes:
        model: what there is to know about it.
    """

    def __init__(
        self,
        handler: SignatureHandler,
        settings: Mapping[str, Any],
        timeout: float = 0.0,
        max_rows: int = 0,
    ) -> None:
        """Prepare for `handler`.

        Args:
            settings: the model's whole configuration.
            timeout: seconds after which the worker is ended; 0 means its `responseTimeout`.
            max_rows: that one explanation may take, of a model that does not say; 0 for by its size.

        Raises:
            ExplainConfigError: its `explain` section cannot be used.
        """
        config = parse_config(settings.get("explain"))
        self._handler = handler
        self.model = ExplainedModel(handler, config)
        seconds = _SHARE_OF_TIMEOUT * (timeout or _response_timeout(settings))
        self._limits = Limits(config.rows_per_pass, config.max_rows or max_rows or None, seconds)

    def adopt(self, handler: SignatureHandler) -> None:
        """Explain the same model with another handler around it, of the same signature."""
        self._handler = self.model.handler = handler

    def explain(self, rows: Sequence[Mapping[str, Any]], accepts: Sequence[str]) -> list[Any]:
        """Answer rows, each with its explanation or its own error.

        Args:
            accepts: the Accept header of each row.
        """
        answers: list[Any] = [None] * len(rows)
        asked: dict[int, Asked] = {}
        for position, (row, accept) in enumerate(zip(rows, accepts, strict=True)):
            try:
                if isinstance(row, Table):
                    answers[position] = self.explain_table(row)
                else:
                    asked[position] = self.read(row, accept)
            except PredictorError as error:
                answers[position] = error
        for position, found in self.explain_asked(asked).items():
            answers[position] = (
                found if isinstance(found, PredictorError) else self._answer(asked[position], found)
            )
        return answers

    def explain_table(self, table: Table) -> Table:
        """Explain all examples of one request of tensors; the answer is one of tensors.

        Raises:
            PredictorError: the request, or any of its examples, cannot be explained.
        """
        parameters = table.parameters if isinstance(table, WishfulTable) else {}
        with in_words_of(parameters):
            return self._explain_table(table, parameters)

    def _explain_table(self, table: Table, parameters: Mapping[str, Any]) -> Table:
        document = document_of(parameters, self.model.default_method())
        request = self.request(document)
        if request.top_k_targets > 1:
            raise InvalidInput("explain.top_k_targets must be 1: tensors hold one target for each example")
        if "reduce" not in document:
            request = dataclasses.replace(request, reduce="none")
        wanted = table.wanted if isinstance(table, WishfulTable) else ()
        request = wish_for_outputs(request, wanted, self.model.signature.inputs)
        asked = {}
        for position, (tensors, texts) in enumerate(self._handler.examples(table)):
            words = {name: self._handler.words(name, text) for name, text in texts.items()}
            asked[position] = Asked(request, True, JSON, tensors, texts, words)
        if not asked:
            raise InvalidInput("The inputs have no rows, so there is nothing to explain")
        found = self.explain_asked(asked)
        explanations = []
        for position, result in found.items():
            if isinstance(result, PredictorError):
                raise placed(f"row {position} of the inputs", result, list(found.values()))
            explanations.append(result[0])
        return as_table(explanations, request)

    def explain_wish(self, wish: Wish) -> Any:
        """Answer one row that has been read, with its explanation or its error."""
        try:
            asked = self._asked(wish)
        except PredictorError as error:
            return error
        found = self.explain_asked({0: asked})[0]
        return found if isinstance(found, PredictorError) else self._answer(asked, found)

    def read(self, row: Mapping[str, Any], accept: str) -> Asked:
        """Read one row.

        Raises:
            InvalidInput: a value of the input, or of the wish, cannot be used; the message names it.
        """
        specs = self.model.signature.inputs
        names = {spec.name for spec in specs}
        return self._asked(read_wish(row, names, accept, specs[0].kind == "text"))

    def _asked(self, wish: Wish) -> Asked:
        request, rich = self._request(wish)
        tensors = self._handler.example(wish.row)
        texts = self._handler.texts(wish.row)
        words = {name: self._handler.words(name, text) for name, text in texts.items()}
        return Asked(request, rich, wish.media_type, tensors, texts, words)

    def request(self, document: Any) -> ExplainRequest:
        """Check an `explain` object for this model.

        Raises:
            InvalidInput: it is wrong, or asks for a method that the model does not allow.
        """
        request = parse_request(document, self.model.default_method())
        refusal = self.model.refusal(request.method)
        if refusal is not None:
            raise InvalidInput(refusal)
        if request.output == "probability" and not self.model.is_classifier:
            raise InvalidInput("explain.output must be 'logit': this model is no classifier")
        if "infidelity" in request.metrics and request.method.name in ("grad_cam", "occlusion"):
            raise InvalidInput(
                f"explain.metrics: there is no infidelity of {request.method.name}, whose attributions are "
                "not in units of the output"
            )
        return request

    def _request(self, wish: Wish) -> tuple[ExplainRequest, bool]:
        rich = wish.explain is not None or wish.media_type != JSON
        if rich:
            request = self.request({} if wish.explain is None else wish.explain)
        else:
            request = self._legacy_request()
        if wish.target is not None:
            target = check_target("target", wish.target)
            request = dataclasses.replace(request, target=target, target_field="target")
        return request, rich

    def _legacy_request(self) -> ExplainRequest:
        method = METHODS["integrated_gradients"]
        if self.model.refusal(method) is None:
            args = method.arguments({"n_steps": _LEGACY_STEPS})
        else:
            method = METHODS[self.model.default_method()]
            args = method.arguments({})
        return ExplainRequest(method, args, target=_LEGACY_TARGET)

    def _answer(self, asked: Asked, found: list[Explanation]) -> Any:
        """Write down the explanations of one example, one for each of its targets."""
        if not asked.rich:
            return as_torchserve(found[0])
        try:
            if asked.media_type != JSON:
                return as_page(found[0], asked.request, asked.media_type)
        except PredictorError as error:
            return error
        written = [as_json(explanation, asked.request) for explanation in found]
        answer = RichAnswer(written[0] if asked.request.top_k_targets == 1 else {"targets": written})
        answer.predicted = found[0].predicted
        return answer

    def explain_asked(self, asked: Mapping[int, Asked]) -> dict[int, list[Explanation] | PredictorError]:
        """Explain examples, those alike together; each gets an explanation per target, or its error."""
        started = time.monotonic()
        results: dict[int, list[Explanation] | PredictorError] = {}
        batches: dict[Any, dict[int, Asked]] = {}
        for position, item in asked.items():
            batches.setdefault(_key(item), {})[position] = item
        for batch in batches.values():
            results.update(self._explain_batch(batch, started))
        return results

    def _explain_batch(
        self, batch: Mapping[int, Asked], started: float
    ) -> dict[int, list[Explanation] | PredictorError]:
        """Explain examples of one method; if that fails for all, the one at fault is found alone."""
        try:
            found: Iterable[list[Explanation] | PredictorError] = ExplainedBatch(
                self.model, self._handler, list(batch.values()), self._limits, started
            ).explain()
        except InvalidInput as error:
            if len(batch) == 1:
                found = [error]
            else:
                alone = [self._explain_batch({key: item}, started)[key] for key, item in batch.items()]
                found = alone
        except PredictorError as error:
            found = [error] * len(batch)
        return dict(zip(batch, found, strict=True))


def _response_timeout(settings: Mapping[str, Any]) -> float:
    given = settings.get("responseTimeout")
    good = isinstance(given, (int, float)) and not isinstance(given, bool) and given > 0
    return float(given) if good and given else _DEFAULT_TIMEOUT


def _key(asked: Asked) -> Any:
    """Return what must be alike in examples that are explained together."""
    request = asked.request
    shapes = tuple((name, tensor.shape, tensor.dtype) for name, tensor in asked.tensors.items())
    args = tuple(sorted((name, str(value)) for name, value in request.args.items()))
    return (request.method.name, args, request.output, request.top_k_targets, request.metrics, shapes)
