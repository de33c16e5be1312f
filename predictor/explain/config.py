"""The `explain:` section of a model's configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from predictor.explain.methods import METHODS
from predictor.handlers.inputs import SignatureError

# Keys of the same section that the front end reads; see `predictor/serving/explaining.py`.
_SERVING_KEYS = ("workers", "queue_size", "timeout", "device")


class ExplainConfigError(SignatureError):
    """The section cannot be used; the text names the key."""


@dataclasses.dataclass(frozen=True)
class ExplainConfig:
    """What a model's owner says about its explanations.

    Attributes:
        method: the default for rich requests; None chooses by what the model allows.
        baseline: the default, in the form of `explain.baseline` of a request; None means zeros.
        background: typical inputs, a list of rows, for methods that compare with many.
        max_rows: rows that one explanation may send through the model; None leaves it to its size.
        rows_per_pass: rows that go through the model at once, which bounds memory; likewise.
        cuda_graphs: record passes that follow gradients as CUDA graphs, where that is faster.
    """

    method: str | None = None
    baseline: Any = None
    background: Any = None
    max_rows: int | None = None
    rows_per_pass: int | None = None
    cuda_graphs: bool = False


def parse_config(section: Any) -> ExplainConfig:
    """Read the section; None when the model has none.

    Raises:
        ExplainConfigError: a key is unknown or its value unusable.
    """
    if section is None:
        return ExplainConfig()
    if not isinstance(section, Mapping):
        raise ExplainConfigError("explain in model-config.yaml must be a mapping")
    ours = [field.name for field in dataclasses.fields(ExplainConfig)]
    for key in section:
        if key not in (*ours, *_SERVING_KEYS):
            known = ", ".join((*ours, *_SERVING_KEYS))
            raise ExplainConfigError(f"explain.{key} is unknown; known are {known}")
    if section.get("method") is not None and section["method"] not in METHODS:
        raise ExplainConfigError(f"explain.method must be one of {', '.join(METHODS)}")
    if not isinstance(section.get("cuda_graphs", False), bool):
        raise ExplainConfigError("explain.cuda_graphs must be true or false")
    for key in ("max_rows", "rows_per_pass"):
        value = section.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ExplainConfigError(f"explain.{key} must be a whole number above 0")
    return ExplainConfig(**{key: section[key] for key in ours if key in section})
