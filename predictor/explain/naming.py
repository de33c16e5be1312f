"""Names of a model's outputs that nobody declares, found in what its handler makes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from predictor.explain.answers import plain_numbers
from predictor.explain.examples import as_probabilities
from predictor.explain.targets import is_index, is_predicted

# A handler may round what it answers, or compute it in another precision.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4


@dataclasses.dataclass(frozen=True)
class Names:
    """What the outputs of a model are called.

    Attributes:
        labels: in the order of the outputs; () where they are not known.
        are_classes: the outputs are the logits of these.
    """

    labels: tuple[str, ...] = ()
    are_classes: bool = False


def is_name(target: Any) -> bool:
    """Return whether a target, as the client wrote it, can only be the name of an output."""
    name = _as_text(target)
    return isinstance(name, str) and not is_predicted(name) and not is_index(name)


def holds_name(answer: Any, target: Any) -> bool:
    """Return whether one of the numbers in a handler's answer has the name that a target is."""
    numbers = plain_numbers(answer)
    return isinstance(numbers, Mapping) and _as_text(target) in numbers


def names_in(answer: Any, outputs: torch.Tensor) -> Names | None:
    """Return the names under which a handler answers the outputs of its model, None where it does not.

    Args:
        answer: of the handler, to one example.
        outputs: of its model for that example, [outputs]; the answer must hold them, or their softmax, in
            the same order.
    """
    numbers = plain_numbers(answer)
    if not isinstance(numbers, Mapping) or len(numbers) != len(outputs):
        return None
    labels, given = tuple(numbers), torch.tensor(list(numbers.values()), dtype=torch.float64)
    outputs = outputs.detach().cpu().double()
    if torch.allclose(given, outputs, rtol=_RELATIVE, atol=_ABSOLUTE):
        return Names(labels)
    if torch.allclose(given, as_probabilities(outputs.unsqueeze(0))[0], rtol=_RELATIVE, atol=_ABSOLUTE):
        return Names(labels, are_classes=True)
    return None


def _as_text(target: Any) -> Any:
    """Return the text of a form's field; what is no bytes is returned as it is."""
    return target.decode("utf-8", "replace").strip() if isinstance(target, (bytes, bytearray)) else target
