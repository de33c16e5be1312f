"""Answers requests for explanations of a signature model: from rows to what clients get."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from predictor.errors import InvalidInput, PredictorError
from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.config import parse_config
from predictor.explain.examples import Attributed, Examples, Subject, as_probabilities, evaluate, pick
from predictor.explain.explanation import Explanation
from predictor.explain.methods import METHODS
from predictor.explain.model import ExplainedModel, check_players
from predictor.explain.parts import describe_inputs
from predictor.explain.perturbation import group_counts
from predictor.explain.quality import infidelity
from predictor.explain.request import ExplainRequest, check_target, parse_request
from predictor.explain.result import RichAnswer, as_json, as_page, as_torchserve
from predictor.explain.tables import WishfulTable, as_table, document_of
from predictor.explain.targets import resolve_target
from predictor.explain.text import Word
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


@dataclasses.dataclass(frozen=True)
class Asked:
    """One example with what its client wants to know.

    Attributes:
        request: how it is explained.
        rich: the client asked for the full answer; else it gets TorchServe's shape.
        media_type: the form of the answer.
        tensors: the example, by input, without batch axis.
        texts: its texts, by input.
        words: their words, by input.
    """

    request: ExplainRequest
    rich: bool
    media_type: str
    tensors: Mapping[str, torch.Tensor]
    texts: Mapping[str, str]
    words: Mapping[str, Sequence[Word]]


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
        document = document_of(parameters, self.model.default_method())
        request = self.request(document)
        if request.top_k_targets > 1:
            raise InvalidInput("explain.top_k_targets must be 1: tensors hold one target for each example")
        if "reduce" not in document:
            request = dataclasses.replace(request, reduce="none")
        asked = {}
        for position, (tensors, texts) in enumerate(self._handler.examples(table)):
            words = {name: self._handler.words(name, text) for name, text in texts.items()}
            asked[position] = Asked(request, True, JSON, tensors, texts, words)
        found = self.explain_asked(asked)
        explanations = []
        for result in (found[position] for position in asked):
            if isinstance(result, PredictorError):
                raise result
            explanations.append(result[0])
        return as_table(explanations, request)

    def read(self, row: Mapping[str, Any], accept: str) -> Asked:
        """Read one row.

        Raises:
            InvalidInput: a value of the input, or of the wish, cannot be used; the message names it.
        """
        specs = self.model.signature.inputs
        names = {spec.name for spec in specs}
        wish = read_wish(row, names, accept, specs[0].kind == "text")
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
        if request.output == "probability" and not self.model.classes:
            raise InvalidInput("explain.output must be 'logit': this model is no classifier")
        if request.metrics and request.method.name in ("grad_cam", "occlusion"):
            raise InvalidInput(
                f"explain.metrics: the attributions of {request.method.name} are not in units of the output"
            )
        return request

    def _request(self, wish: Wish) -> tuple[ExplainRequest, bool]:
        rich = wish.explain is not None or wish.media_type != JSON
        if rich:
            request = self.request({} if wish.explain is None else wish.explain)
        else:
            request = self._legacy_request()
        if wish.target is not None:
            request = dataclasses.replace(request, target=check_target("target", wish.target))
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
            found: Iterable[list[Explanation] | PredictorError] = _Batch(
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


class _Batch:
    """Examples that are explained together."""

    def __init__(
        self,
        model: ExplainedModel,
        handler: SignatureHandler,
        asked: list[Asked],
        limits: Limits,
        started: float,
    ) -> None:
        self._model = model
        self._asked = asked
        self._limits = limits
        self._request = asked[0].request
        self._budget = Budget(limits, len(asked), started)
        self._started = time.perf_counter()
        self._arguments = handler.collate([item.tensors for item in asked])

    def explain(self) -> list[list[Explanation] | PredictorError]:
        """Return for each example an explanation per target, or its error.

        Raises:
            PredictorError: nothing can be said about any of them.
        """
        with torch.inference_mode(False):
            request = self._request
            examples, slots, subject = self._model.examples(
                self._arguments,
                [item.request.baseline for item in self._asked],
                [item.words for item in self._asked],
                request.method,
                request.args,
            )
            logits, starts = self._ends(subject, examples)
            results: list[list[Explanation] | PredictorError] = []
            targets: list[torch.Tensor] = []
            for row, players in enumerate(group_counts(examples)):
                try:
                    self._check_cost(players)
                    targets.append(self._targets(self._asked[row], logits[row]))
                    results.append([])
                except PredictorError as error:
                    results.append(error)
            rows = [row for row, result in enumerate(results) if not isinstance(result, PredictorError)]
            if rows:
                chosen = self._chosen(examples, rows, targets)
                found = self._attribute(subject, chosen)
                ends = (logits[rows], starts[rows])
                for row, explanations in zip(
                    rows, self._write(chosen, found, slots, rows, ends, subject), strict=True
                ):
                    results[row] = explanations
        return results

    def _ends(self, subject: Subject, examples: Examples) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the outputs at the inputs and at the baselines, from one pass, as the model gives them."""
        count = len(examples.inputs)
        ends = [torch.cat(pair) for pair in zip(examples.inputs, examples.baselines, strict=True)]
        extras = tuple(torch.cat([tensor, tensor]) for tensor in examples.extras)
        scores = evaluate(subject, tuple(ends[:count]), extras, examples.owners.repeat(2), self._budget)
        at_input, at_baseline = scores.chunk(2)
        return at_input, at_baseline

    def _check_cost(self, players: int) -> None:
        request = self._request
        check_players(request.method, players)
        rows = self._model.rows(request.method, request.args, self._arguments, players)
        numbers = sum(tensor[0].numel() for tensor in self._arguments)
        self._limits.allow(rows * request.top_k_targets, numbers, "explain.args or explain.top_k_targets")

    def _targets(self, asked: Asked, logits: torch.Tensor) -> torch.Tensor:
        """Return the indices of the outputs to explain, int64 [targets]."""
        count = asked.request.top_k_targets
        if count > len(logits):
            raise InvalidInput(f"explain.top_k_targets must be at most {len(logits)}, the number of outputs")
        if count > 1:
            return logits.topk(count).indices
        target = resolve_target(asked.request.target, self._model.classes, len(logits))
        return (
            logits.argmax().reshape(1) if target is None else logits.new_tensor([target], dtype=torch.int64)
        )

    def _chosen(self, examples: Examples, rows: list[int], targets: list[torch.Tensor]) -> Examples:
        index = torch.tensor(rows, device=examples.device)
        chosen = examples.with_inputs(pick(examples.inputs, index), index)
        seeds = tuple(self._asked[row].request.seed for row in rows)
        return dataclasses.replace(chosen, targets=torch.stack(targets), seeds=seeds)

    def _attribute(self, subject: Subject, examples: Examples) -> Attributed:
        request = self._request
        subject = dataclasses.replace(subject, probability=request.output == "probability")
        return attribute(request.method, subject, examples, self._budget, request.args)

    def _write(
        self,
        examples: Examples,
        found: Attributed,
        slots: tuple[int, ...],
        rows: list[int],
        ends: tuple[torch.Tensor, torch.Tensor],
        subject: Subject,
    ) -> list[list[Explanation]]:
        """Return the explanations of the rows that were attributed."""
        request = self._request
        probable = request.output == "probability"
        subject = dataclasses.replace(subject, probability=probable)
        measures = self._measures(subject, examples, found)
        chances = as_probabilities(ends[0]) if self._model.classes else None
        shown = [as_probabilities(scores) if probable else scores for scores in ends]
        if found.baseline_scores is not None:
            shown[1] = found.baseline_scores
        totals, sizes = found.totals()
        values = [value.detach().float().cpu().numpy() for value in found.values]
        elapsed = round((time.perf_counter() - self._started) * 1000, 2)
        results = []
        for position, row in enumerate(rows):
            asked = self._asked[row]
            predicted = int(ends[0][position].argmax())
            explanations = []
            for column, target in enumerate(examples.targets[position].tolist()):
                raw = [value[position, column] for value in values]
                inputs, features = describe_inputs(
                    self._model, asked, slots, examples, position, raw, found.shared
                )
                explanations.append(
                    Explanation(
                        method=request.method.name,
                        has_delta=request.method.is_complete and not request.args.get("noise_samples"),
                        kind=request.output if self._model.classes else "value",
                        target=target,
                        predicted=predicted,
                        labels=self._model.classes,
                        score=None if chances is None else float(chances[position, predicted]),
                        target_score=None if chances is None else float(chances[position, target]),
                        output=float(shown[0][position, target]),
                        baseline_output=float(shown[1][position, target]),
                        total=float(totals[position, column]),
                        size=float(sizes[position, column]),
                        inputs=inputs,
                        features=features,
                        n_steps=None if found.n_steps is None else found.n_steps[position],
                        converged=None if found.converged is None else found.converged[position],
                        cost=self._cost(row, elapsed),
                        metrics={name: values[position] for name, values in measures.items()},
                    )
                )
            results.append(explanations)
        return results

    def _cost(self, row: int, elapsed: float) -> dict[str, float]:
        return {
            "forward_rows": int(self._budget.forward[row]),
            "backward_rows": int(self._budget.backward[row]),
            "ms": elapsed,
        }

    def _measures(self, subject: Subject, examples: Examples, found: Attributed) -> dict[str, list[float]]:
        if not self._request.metrics:
            return {}
        is_slope = self._request.method.name == "saliency"
        return {"infidelity": infidelity(subject, examples, self._budget, found, is_slope)}
