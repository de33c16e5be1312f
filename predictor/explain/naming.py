"""Names of a model's outputs that nobody declares, found in what its handler makes of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import torch

from predictor.explain.answers import plain_numbers
from predictor.explain.examples import as_probabilities
from predictor.explain.targets import is_index, is_predicted

# A handler may compute its answer in another precision, or round it. Of a classifier that is sure of itself
# all chances but one are about 0, so that the first is tried with nothing allowed for the second.
_TOLERANCES = ((1e-4, 0.0), (1e-3, 1e-4))


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
    """Return whether a target, as the client wrote it, may be the name of an output."""
    name = _as_text(target)
    return isinstance(name, str) and not is_predicted(name)


def holds_name(answer: Any, target: Any) -> bool:
    """Return whether a target can only be the name of one of the numbers in a handler's answer."""
    numbers, name = plain_numbers(answer), _as_text(target)
    return isinstance(numbers, Mapping) and name in numbers and not is_index(name)


def names_in(answer: Any, outputs: torch.Tensor) -> Names | None:
    """Return the names under which a handler answers the outputs of its model, None where it does not.

    Args:
        answer: of the handler, to one example.
        outputs: of its model for that example, [outputs]; the answer must hold them, or their softmax, in
            any order, such as by size, and each must be another number.
    """
    numbers = plain_numbers(answer)
    if not isinstance(numbers, Mapping) or len(numbers) != len(outputs):
        return None
    outputs = outputs.detach().cpu().double()
    labels = _matched(numbers, outputs)
    if labels is not None:
        return Names(labels)
    labels = _matched(numbers, as_probabilities(outputs.unsqueeze(0))[0])
    return None if labels is None else Names(labels, are_classes=True)


def _matched(numbers: Mapping[str, float], outputs: torch.Tensor) -> tuple[str, ...] | None:
    """Return the name of each output, None where they are other numbers or could be told apart by nobody."""
    names, given = tuple(numbers), torch.tensor(list(numbers.values()), dtype=torch.float64)
    ranks, places = given.argsort(), outputs.argsort()
    given, outputs = given[ranks], outputs[places]
    lower, upper = outputs[:-1], outputs[1:]
    for relative, absolute in _TOLERANCES:
        if torch.allclose(given, outputs, rtol=relative, atol=absolute):
            close = functools.partial(torch.isclose, rtol=2 * relative, atol=2 * absolute)
            alike = close(lower, upper) | close(upper, lower)
            ordered = zip(places.tolist(), ranks.tolist(), strict=True)
            return None if alike.any() else tuple(names[rank] for _, rank in sorted(ordered))
    return None


def _as_text(target: Any) -> Any:
    """Return the text of a form's field; what is no bytes is returned as it is."""
    return target.decode("utf-8", "replace").strip() if isinstance(target, (bytes, bytearray)) else target
