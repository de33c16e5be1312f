"""Variants of a client's input, put to a handler that was never made for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from predictor.errors import InvalidInput
from predictor.explain.taking_apart import Pieces

Row = Mapping[str, Any]

logger = logging.getLogger(__name__)


class Variants:
    """Asks a handler for its answers to variants, and says which one it cannot answer.

    The handler answered the input itself before, so its failure tells neither of a bad request nor of a
    broken model, but that this input cannot be explained by taking it apart.
    """

    def __init__(self, predict: Callable[[Sequence[Row]], Sequence[Any]], pieces: Pieces) -> None:
        """Ask `predict` about variants of `pieces`."""
        self._predict = predict
        self._pieces = pieces

    def __call__(self, rows: Sequence[Row], parts: Sequence[Sequence[torch.Tensor]]) -> Sequence[Any]:
        """Return the answers to `rows`, of which each is made from the tensors in its `parts`.

        Raises:
            InvalidInput: the handler fails for one; the message says for which, and how.
        """
        try:
            return self._predict(rows)
        except Exception as error:  # noqa: BLE001 - a handler's own code
            logger.info("the handler fails for variants of an input: %s", error)
            return [self._alone(row, part) for row, part in zip(rows, parts, strict=True)]

    def _alone(self, row: Row, part: Sequence[torch.Tensor]) -> Any:
        """Ask for one variant, since one that fails spoils the answers of its batch."""
        try:
            return self._predict([row])[0]
        except Exception as error:
            raise InvalidInput(
                "explain: this input cannot be explained by taking it apart, because the handler fails "
                f"for the variant {self._name(part)} ({type(error).__name__}: {error})"
            ) from error

    def _name(self, part: Sequence[torch.Tensor]) -> str:
        """Say for people which variant it is."""
        if self._pieces.sentence is not None:
            present = part[0].tolist()
            named = zip(self._pieces.words, present, strict=True)
            missing = [repr(word) for (word, _, _), is_there in named if not is_there]
            return f"without the words {', '.join(missing)}" if missing else "with all its words"
        pieces = self._pieces
        tensors = part[0].unbind() if pieces.packed else part
        changed = [
            spec.name
            for spec, tensor in zip(pieces.specs, tensors, strict=True)
            if not torch.equal(tensor, pieces.tensors[spec.name])
        ]
        return f"with a change of {', '.join(changed)}" if changed else "without a change"
