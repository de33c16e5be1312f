"""Examples of one method, shape and kind, explained together: from tensors to explanations."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from predictor.errors import InvalidInput, PredictorError
from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.examples import Attributed, Examples, Subject, as_probabilities, evaluate, pick
from predictor.explain.explanation import Explanation
from predictor.explain.finite import check_explanation, check_output
from predictor.explain.giving_way import given_away
from predictor.explain.memory import keep_freed_memory
from predictor.explain.model import ExplainedModel, check_players
from predictor.explain.parts import describe_inputs
from predictor.explain.perturbation import group_counts
from predictor.explain.precision import full_precision
from predictor.explain.quality import SENSITIVITY_SAMPLES, check_continuous, infidelity, sensitivity
from predictor.explain.request import ExplainRequest
from predictor.explain.targets import PREDICTED, resolve_target
from predictor.explain.text import Word

if TYPE_CHECKING:
    from predictor.handlers.signature import SignatureHandler


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


class ExplainedBatch:
    """Examples that are explained together."""

    def __init__(
        self,
        model: ExplainedModel,
        handler: SignatureHandler,
        asked: list[Asked],
        limits: Limits,
        started: float,
    ) -> None:
        """Prepare to explain `asked`, which ask for the same; `started` is when the clock began to run."""
        self._model = model
        self._asked = asked
        self._limits = limits
        self._request = asked[0].request
        self._budget = Budget(limits, len(asked), started)
        self._started = time.perf_counter() - given_away()
        self._arguments: Sequence[torch.Tensor | None] = handler.collate([item.tensors for item in asked])

    def explain(self) -> list[list[Explanation] | PredictorError]:
        """Return for each example an explanation per target, or its error.

        Raises:
            PredictorError: nothing can be said about any of them.
        """
        keep_freed_memory()
        # The outputs that a delta refers to are computed as precisely as what is compared with them.
        with torch.inference_mode(False), full_precision(self._model.is_recurrent):
            request = self._request
            examples, slots, subject = self._model.examples(
                self._arguments,
                [item.request.baseline for item in self._asked],
                [item.words for item in self._asked],
                request.method,
                request.args,
            )
            if "sensitivity" in request.metrics:
                check_continuous(examples)
            logits, starts = self._ends(subject, examples)
            results: list[list[Explanation] | PredictorError] = []
            targets: list[torch.Tensor] = []
            for row, players in enumerate(group_counts(examples)):
                try:
                    self._check_cost(players)
                    chosen = self._targets(self._asked[row], logits[row])
                    check_output(logits[row][chosen], self._asked[row].tensors)
                    targets.append(chosen)
                    results.append([])
                except PredictorError as error:
                    results.append(error)
            rows = [row for row, result in enumerate(results) if not isinstance(result, PredictorError)]
            if rows:
                picked = self._chosen(examples, rows, targets)
                found = self._attribute(subject, picked)
                ends = (logits[rows].cpu(), starts[rows].cpu())
                written = self._write(picked, found, slots, rows, ends, subject)
                for row, explanations in zip(rows, written, strict=True):
                    results[row] = self._checked(row, explanations)
        return results

    def _checked(self, row: int, explanations: list[Explanation]) -> list[Explanation] | PredictorError:
        """Return the explanations of one example, or why they are of no use."""
        try:
            for explanation in explanations:
                check_explanation(explanation, self._asked[row].tensors)
        except PredictorError as error:
            return error
        return explanations

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
        if not players:
            texts = [spec.name for spec in self._model.signature.inputs if spec.kind == "text"]
            raise InvalidInput(f"Input '{', '.join(texts)}' holds no word, so there is nothing to explain")
        check_players(request.method, players)
        rows = self._model.rows(request.method, request.args, self._arguments, players)
        where = "explain.args or explain.top_k_targets"
        if "sensitivity" in request.metrics:
            rows *= 1 + SENSITIVITY_SAMPLES
            where += " or explain.metrics"
        numbers = sum(tensor[0].numel() for tensor in self._arguments if tensor is not None)
        self._limits.allow(rows * request.top_k_targets, numbers, where)

    def _targets(self, asked: Asked, logits: torch.Tensor) -> torch.Tensor:
        """Return the indices of the outputs to explain, int64 [targets]."""
        request = asked.request
        count = request.top_k_targets
        if count > len(logits):
            raise InvalidInput(f"explain.top_k_targets must be at most {len(logits)}, the number of outputs")
        if count > 1 and request.target != PREDICTED:
            beside = "must be 'predicted' beside explain.top_k_targets"
            raise InvalidInput(f"{request.target_field} {beside}; got {request.target!r}")
        if count > 1:
            return logits.topk(count).indices
        target = resolve_target(request.target, self._model.labels, len(logits), request.target_field)
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
        subject = dataclasses.replace(subject, probability=self._squashes)
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
        probable = self._squashes
        subject = dataclasses.replace(subject, probability=probable)
        measures = self._measures(subject, examples, found)
        chances = self._chances(ends[0])
        shown = [as_probabilities(scores) if probable else scores for scores in ends]
        if found.baseline_scores is not None:
            shown[1] = found.baseline_scores.cpu()
        totals, sizes = (numbers.cpu() for numbers in found.totals())
        values = [value.detach().float().cpu().numpy() for value in found.values]
        elapsed = round((time.perf_counter() - self._started - given_away()) * 1000, 2)
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
                        kind=self._kind,
                        target=target,
                        predicted=predicted,
                        labels=self._model.labels,
                        score=None if chances is None else float(chances[position, predicted]),
                        target_score=None if chances is None else float(chances[position, target]),
                        output=float(shown[0][position, target]),
                        baseline_output=float(shown[1][position, target]),
                        total=float(totals[position, column]),
                        size=float(sizes[position, column]),
                        inputs=inputs,
                        features=features,
                        n_steps=None if found.n_steps is None else found.n_steps[position],
                        converged=None if found.converged is None else found.converged[position][column],
                        cost=self._cost(row, elapsed),
                        metrics={name: values[position] for name, values in measures.items()},
                    )
                )
            results.append(explanations)
        return results

    @property
    def _squashes(self) -> bool:
        """Whether the model's logits are turned into probabilities before they are explained."""
        return self._request.output == "probability" and not self._model.gives_probabilities

    @property
    def _kind(self) -> str:
        if self._model.gives_probabilities:
            return str(getattr(self._model.handler, "output_kind", "probability"))
        return self._request.output if self._model.is_classifier else "value"

    def _chances(self, scores: torch.Tensor) -> torch.Tensor | None:
        if not self._model.is_classifier:
            return None
        return scores if self._model.gives_probabilities else as_probabilities(scores)

    def _cost(self, row: int, elapsed: float) -> dict[str, float]:
        return {
            "forward_rows": int(self._budget.forward[row]),
            "backward_rows": int(self._budget.backward[row]),
            "ms": elapsed,
        }

    def _measures(self, subject: Subject, examples: Examples, found: Attributed) -> dict[str, list[float]]:
        measures = {}
        if "infidelity" in self._request.metrics:
            is_slope = self._request.method.name == "saliency"
            measures["infidelity"] = infidelity(subject, examples, self._budget, found, is_slope)
        if "sensitivity" in self._request.metrics:
            measures["sensitivity"] = sensitivity(
                lambda noisy: self._attribute(subject, noisy), examples, found
            )
        return measures
