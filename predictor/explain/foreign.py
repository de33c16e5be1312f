"""Rich explanations of handlers that know nothing of them: TorchServe's own, and anybody's."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch

from predictor.errors import InvalidInput
from predictor.explain.adopted import Adopted
from predictor.explain.adopting import Adopting, Predict, Row
from predictor.explain.explainer import Explainer
from predictor.explain.giving_way import keeping_turn
from predictor.explain.joined import WishfulRows, join_tables
from predictor.explain.layers import convolutions
from predictor.explain.methods import METHODS, Method, Need
from predictor.explain.shadow import ModelKind, kind_of, unwrap
from predictor.explain.tables import WishfulTable, target_of
from predictor.explain.wishes import JSON, read_undeclared, read_wish
from predictor.handlers.tensors import Table

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
        self._adopting = Adopting(instance, predict)
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
        wish = read_undeclared(row, accept)
        adopted = self._adopting.by_tensor(wish.row, target=wish.wanted_target)
        with self._explaining(adopted, wish.row) as explainer:
            return explainer.explain_wish(wish)

    def explain_tensors(self, request: WishfulRows) -> Table:
        """Answer a whole request of V2 with tensors: one row after the other, and then put together.

        Raises:
            PredictorError: a row cannot be explained.
            Exception: whatever the handler's own code raises.
        """
        wanted = tuple({"image"} & set(request.wanted))
        tables = []
        for row in request.rows:
            wishful = WishfulTable()
            wishful.parameters, wishful.wanted = request.parameters, wanted
            adopted = self._adopting.by_tensor(row, row["name"], target_of(request.parameters))
            with self._explaining(adopted, row, row["name"]) as explainer:
                tables.append(explainer.explain_table(wishful))
        return join_tables(tables)

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

    @contextlib.contextmanager
    def _explaining(self, adopted: Adopted | None, row: Row, name: str = "") -> Iterator[Explainer]:
        """Prepare to explain a row; `adopted` is None where nothing but the handler's answers can be had."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            if adopted is None:
                yield self._fresh(self._adopting.by_answers(row, name), _CAREFUL)
            else:
                if adopted.has_state:
                    stack.enter_context(keeping_turn())
                yield self._explainer(adopted)

    @property
    def _model(self) -> Any:
        return self._adopting.model

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
