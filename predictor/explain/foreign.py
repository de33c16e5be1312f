"""Rich explanations of handlers that know nothing of them: TorchServe's own, and anybody's.

Two ways, the first that works:

* the handler's `preprocess` makes a tensor and its `model` takes it: attributions are of that tensor;
* only its answers can be had: the input itself is taken apart (see `taking_apart.py`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch

from predictor.errors import InvalidInput, PredictorError
from predictor.explain.adopted import Adopted, AdoptedSignature
from predictor.explain.answers import AnswerReader
from predictor.explain.explainer import Explainer
from predictor.explain.giving_way import keeping_turn
from predictor.explain.layers import convolutions
from predictor.explain.methods import METHODS, Method, Need
from predictor.explain.shadow import ModelKind, kind_of, unwrap
from predictor.explain.taking_apart import payload_key, take_apart
from predictor.explain.variants import Variants
from predictor.explain.wishes import JSON, read_wish
from predictor.ipc.messages import TensorSpec

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
Predict = Callable[[Sequence[Row]], Sequence[Any]]

_KEPT_EXPLAINERS = 8
# A handler may take long for every single row, and the time is looked at between passes.
_CAREFUL = {"method": "feature_ablation", "rows_per_pass": 16, "max_rows": 2048}
# For costs that are told before an input is known: a grid of 7 x 7 squares.
_TYPICAL_PLAYERS = 49


class ForeignExplainer:
    """Explains one loaded handler."""

    def __init__(
        self,
        instance: Any,
        predict: Predict,
        settings: Mapping[str, Any],
        timeout: float = 0.0,
        max_rows: int = 0,
    ) -> None:
        """Prepare for a handler.

        Args:
            instance: the handler's object, None for a function.
            predict: answers rows as predictions; called with any number of them.
            settings: the model's configuration.
            timeout: see `Explainer`.
            max_rows: likewise.
        """
        self._instance = instance
        self._predict = predict
        self._settings = settings
        self._limits = (timeout, max_rows)
        self._explainers: OrderedDict[Any, Explainer] = OrderedDict()

    def wants(self, row: Any, accept: str) -> bool:
        """Return whether a row asks for a rich answer; if not, it is the handler's own business."""
        if not isinstance(row, Mapping):
            return False
        try:
            wish = read_wish(row, (), accept, False)
        except InvalidInput:
            return False
        return isinstance(wish.explain, Mapping) or wish.media_type != JSON

    def explain(self, row: Row, accept: str) -> Any:
        """Answer one row; the answer may be an error.

        Raises:
            PredictorError: the input cannot be explained.
            Exception: whatever the handler's own code raises.
        """
        wish = read_wish(row, (), accept, False)
        with torch.inference_mode(False):
            adopted = self._by_tensor(wish.row)
            explainer = self._explainer(adopted) if adopted else None
            if explainer is None:
                explainer = self._fresh(self._by_answers(wish.row), _CAREFUL)
            with keeping_turn() if adopted and adopted.has_state else contextlib.nullcontext():
                (answer,) = explainer.explain([row], [accept])
        return answer

    def describe(self) -> dict[str, Any]:
        """Return what `GET .../explain` tells, before any input is known."""
        methods = [method for method in METHODS.values() if self._may_offer(method)]
        default = "integrated_gradients" if self._has_gradients else "feature_ablation"
        return {
            "default_method": default,
            "labels": [],
            "methods": [method.describe(_TYPICAL_PLAYERS) for method in methods],
        }

    # private

    @property
    def _model(self) -> Any:
        return getattr(self._instance, "model", None)

    @property
    def _has_gradients(self) -> bool:
        has_steps = callable(getattr(self._instance, "preprocess", None))
        return has_steps and kind_of(self._model) is not ModelKind.CALLABLE

    def _may_offer(self, method: Method) -> bool:
        eager = self._has_gradients and kind_of(self._model) is ModelKind.EAGER
        has = {
            Need.GRADIENTS: self._has_gradients,
            Need.EAGER: eager,
            Need.CONVOLUTION: eager and bool(convolutions(unwrap(self._model))),
        }
        return all(has.get(need, True) for need in method.needs)

    def _by_tensor(self, row: Row) -> Adopted | None:
        """Return the model behind the handler's own preprocessing, None where that is no single tensor."""
        if not callable(getattr(self._instance, "preprocess", None)) or self._model is None:
            return None
        try:
            prepared = self._instance.preprocess([dict(row)])
        except Exception as error:  # noqa: BLE001 - a handler's own code; what it answers tells more
            logger.info("preprocess does not take the row alone: %s", error)
            return None
        if not isinstance(prepared, torch.Tensor) or prepared.dim() < 2 or len(prepared) != 1:
            return None
        prepared = prepared.detach().clone()
        calls_handler = kind_of(self._model) is ModelKind.CALLABLE
        model = self._inferring if calls_handler else self._model
        count = _outputs(model, prepared)
        if not count:
            return None
        tensor = prepared[0]
        kind = "image" if tensor.dim() == 3 and len(tensor) in (1, 3) else "tensor"
        dtype = str(tensor.dtype).removeprefix("torch.")
        spec = TensorSpec("input", dtype, tuple(tensor.shape), kind)
        labels = _labels(getattr(self._instance, "mapping", None), count)
        signature = AdoptedSignature((spec,), labels)
        return Adopted(model, signature, prepared.device, {"input": tensor}, has_state=calls_handler)

    def _inferring(self, tensor: torch.Tensor) -> torch.Tensor:
        """Call the handler's `inference`, which knows how to call a model that is no module."""
        found = self._instance.inference(tensor)
        found = found[0] if isinstance(found, (list, tuple)) else found
        return torch.as_tensor(found).clone()

    def _by_answers(self, row: Row) -> Adopted:
        """Return the handler as a function of the pieces of its input."""
        key = payload_key(row)
        pieces = take_apart(row[key])
        reader = AnswerReader(self._predict([row])[0])
        predict = Variants(self._predict, pieces)
        is_classifier = reader.are_probabilities
        blank = _Blank(self._predict, reader)

        def model(*columns: torch.Tensor) -> torch.Tensor:
            parts = list(zip(*columns, strict=True))
            variants = [{**row, key: pieces.write(part)} for part in parts]
            if pieces.sentence is None:
                return reader.scores(predict(variants, parts))
            empty = (columns[0] == 0).all(dim=1)
            scores = torch.empty((len(variants), len(reader.read(reader.example))))
            worded = [index for index in range(len(variants)) if not empty[index]]
            if worded:
                answers = predict([variants[index] for index in worded], [parts[index] for index in worded])
                scores[worded] = reader.scores(answers)
            for index in torch.nonzero(empty).flatten().tolist():
                scores[index] = blank.scores(variants[index])
            return scores

        signature = AdoptedSignature(pieces.specs, reader.labels if is_classifier else (), pieces.packed)
        return Adopted(
            model,
            signature,
            torch.device("cpu"),
            pieces.tensors,
            pieces.sentence,
            pieces.words,
            gives_probabilities=is_classifier,
        )

    def _explainer(self, adopted: Adopted) -> Explainer:
        """Return the explainer for inputs of this shape; the copy of the model that it holds is kept."""
        key = adopted.signature
        explainer = self._explainers.pop(key, None)
        if explainer is None:
            explainer = self._fresh(adopted)
        else:
            explainer.adopt(cast(Any, adopted))
        self._explainers[key] = explainer
        if len(self._explainers) > _KEPT_EXPLAINERS:
            self._explainers.popitem(last=False)
        return explainer

    def _fresh(self, adopted: Adopted, defaults: Mapping[str, Any] | None = None) -> Explainer:
        chosen = self._settings.get("explain")
        section = {**(defaults or {}), **(chosen if isinstance(chosen, Mapping) else {})}
        settings = {**self._settings, "explain": section}
        return Explainer(cast(Any, adopted), settings, *self._limits)


class _Blank:
    """What a handler answers to a text without words, which many cannot."""

    def __init__(self, predict: Predict, reader: AnswerReader) -> None:
        self._predict = predict
        self._reader = reader
        self._failed = False

    def scores(self, row: Row) -> torch.Tensor:
        """Return the numbers of the answer; not a number, once, if the handler fails.

        Once, because the output at the baseline is always told, whether the method needs it or not.

        Raises:
            InvalidInput: the method needs it.
        """
        if self._failed:
            raise InvalidInput(
                "explain.method: the handler cannot answer a text without words, which this method asks it; "
                "feature_ablation takes only one word away at a time, of a text that has several"
            )
        try:
            return self._reader.scores(self._predict([row]))
        except Exception as error:  # noqa: BLE001 - a handler's own code
            logger.info("the handler fails for a text without words: %s", error)
            self._failed = True
            return torch.full((1, len(self._reader.read(self._reader.example))), torch.nan)


def _outputs(model: Any, prepared: torch.Tensor) -> int:
    """Return how many numbers the model answers for one example, 0 if its answer is no such thing."""
    try:
        with torch.no_grad():
            output = model(prepared)
    except PredictorError:
        raise
    except Exception as error:  # noqa: BLE001 - the model may want to be called otherwise than we do
        logger.info("the model cannot be called with what preprocess returns: %s", error)
        return 0
    output = output[0] if isinstance(output, (list, tuple)) and output else output
    if not isinstance(output, torch.Tensor) or output.dim() not in (1, 2) or len(output) != 1:
        return 0
    return output[0].numel()


def _labels(mapping: Any, count: int) -> tuple[str, ...]:
    """Return the labels of a classifier from TorchServe's index_to_name.json, () unless all are there."""
    if not isinstance(mapping, Mapping) or len(mapping) != count:
        return ()
    found = [mapping.get(str(index)) for index in range(count)]
    named = [value[-1] if isinstance(value, (list, tuple)) and value else value for value in found]
    labels = tuple(name for name in named if isinstance(name, str))
    return labels if len(labels) == count else ()
