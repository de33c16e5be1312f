"""Which of several examples an error is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from predictor.errors import InvalidInput, PayloadTooLarge, PredictorError, WorkTooLarge


def placed(place: str, error: PredictorError, answers: Sequence[Any]) -> PredictorError:
    """Return the error of one of several examples, with its place where the others say something else.

    Args:
        place: such as `instances[2]`.
        answers: to all examples of the request, of which some are errors.
    """
    if type(error) not in (InvalidInput, PayloadTooLarge, WorkTooLarge):
        return error  # of the model, or of the batch that the example was computed in
    if all(isinstance(answer, PredictorError) and answer.message == error.message for answer in answers):
        return error  # of what they have in common, such as `explain`
    return type(error)(f"{place}: {error.message}")
