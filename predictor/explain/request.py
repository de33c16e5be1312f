"""The `explain` object of a request: parsed, checked, and completed with defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from predictor.errors import InvalidInput
from predictor.explain.methods import Method, find_method
from predictor.explain.targets import PREDICTED

DEFAULT_METHOD = "integrated_gradients"

RETURNS = ("attributions", "prediction", "delta", "image", "html", "top_features")
REDUCTIONS = ("none", "channel_sum", "channel_mean", "channel_max_abs")
OUTPUTS = ("logit", "probability")
METRICS = ("infidelity", "sensitivity")
STYLES = ("overlay", "heatmap", "side_by_side", "masked")
SIGNS = ("all", "positive", "negative", "absolute")

_MAX_TOP_TARGETS = 20
_MAX_TOP_FEATURES = 10_000
_MAX_SEED = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class ImageStyle:
    """How a picture is drawn.

    Attributes:
        style: what is drawn: the heat over the picture, the heat alone, both beside each other, or only
            the parts of the picture that matter.
        sign: which attributions are shown.
        alpha: how strongly the heat covers the picture, 0 to 1.
        clip_percentile: the percentile of the attributions' sizes that gets the full colour.
        size: length of the longer side in pixels, at least; 0 for no enlargement.
    """

    style: str = "overlay"
    sign: str = "all"
    alpha: float = 0.75
    clip_percentile: float = 99.0
    size: int = 336


@dataclasses.dataclass(frozen=True)
class ExplainRequest:
    """What a client wants to know about one example.

    Attributes:
        method: how it is found out.
        args: all arguments of the method.
        target: index or label of the output to explain, or "predicted".
        top_k_targets: how many of the most probable outputs are explained; above 1, `target` is "predicted".
        baseline: what the input is compared with, None for the model's own; see `baselines.py`.
        output: "logit" or "probability" for classifiers.
        returns: parts of the answer.
        reduce: how a picture's channels become one.
        top_k: length of `top_features`.
        seed: of everything random.
        image: how pictures are drawn.
        metrics: measures of the explanation's quality.
        target_field: where the client wrote the target.
    """

    method: Method
    args: Mapping[str, Any]
    target: int | str = PREDICTED
    top_k_targets: int = 1
    baseline: Any = None
    output: str = "logit"
    returns: tuple[str, ...] = ("attributions", "prediction", "delta")
    reduce: str = "channel_sum"
    top_k: int = 10
    seed: int = 0
    image: ImageStyle = dataclasses.field(default_factory=ImageStyle)
    metrics: tuple[str, ...] = ()
    target_field: str = "explain.target"


def parse_request(document: Any, default_method: str = DEFAULT_METHOD) -> ExplainRequest:
    """Check an `explain` object.

    Args:
        default_method: used when the object names none.

    Raises:
        InvalidInput: a key is unknown or a value bad; the message names those that are allowed.
    """
    if not isinstance(document, Mapping):
        raise InvalidInput("'explain' must be an object")
    _check_keys("explain", document, KEYS)
    method = find_method(document.get("method", default_method))
    args = document.get("args", {})
    if not isinstance(args, Mapping):
        raise InvalidInput("explain.args must be an object")
    fields: dict[str, Any] = {
        _FIELD_NAMES.get(key, key): check(f"explain.{key}", document[key])
        for key, check in _CHECKS.items()
        if key in document
    }
    return ExplainRequest(method=method, args=method.arguments(args), **fields)


def check_target(where: str, value: Any) -> int | str:
    """Return an index or a label as it was sent; bytes are the text of a form's field.

    Raises:
        InvalidInput: it is neither.
    """
    if isinstance(value, (bytes, bytearray)):
        value = value.decode("utf-8", "replace").strip()
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InvalidInput(f"{where} must be a class index, a label or 'predicted'; got {value!r}")
    return value


def _check_keys(where: str, document: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in document:
        if key not in known:
            hint = f" (arguments of the method go into {where}.args)" if "args" in known else ""
            raise InvalidInput(f"{where}.{key} is unknown; allowed are {', '.join(known)}{hint}")


def _target(where: str, value: Any) -> int | str:
    return check_target(where, value)


def _whole(where: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"{where} must be a whole number from {low} to {high}; got {value!r}")
    return value


def _number(where: str, value: Any, low: float, high: float) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high:
        raise InvalidInput(f"{where} must be a number from {low:g} to {high:g}; got {value!r}")
    return float(value)


def _word(where: str, value: Any, words: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in words:
        raise InvalidInput(f"{where} must be one of {', '.join(words)}; got {value!r}")
    return value


def _words(where: str, value: Any, words: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InvalidInput(f"{where} must be a list of {', '.join(words)}")
    return tuple(dict.fromkeys(_word(where, item, words) for item in value))


def _image(where: str, value: Any) -> ImageStyle:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where} must be an object")
    _check_keys(where, value, [field.name for field in dataclasses.fields(ImageStyle)])
    checks: dict[str, Callable[[str, Any], Any]] = {
        "style": lambda key, item: _word(key, item, STYLES),
        "sign": lambda key, item: _word(key, item, SIGNS),
        "alpha": lambda key, item: _number(key, item, 0, 1),
        "clip_percentile": lambda key, item: _number(key, item, 1, 100),
        "size": lambda key, item: _whole(key, item, 0, 2048),
    }
    return ImageStyle(**{key: checks[key](f"{where}.{key}", item) for key, item in value.items()})


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "target": _target,
    "top_k_targets": lambda where, value: _whole(where, value, 1, _MAX_TOP_TARGETS),
    "baseline": lambda where, value: value,
    "output": lambda where, value: _word(where, value, OUTPUTS),
    "return": lambda where, value: _words(where, value, RETURNS),
    "reduce": lambda where, value: _word(where, value, REDUCTIONS),
    "top_k": lambda where, value: _whole(where, value, 1, _MAX_TOP_FEATURES),
    "seed": lambda where, value: _whole(where, value, 0, _MAX_SEED),
    "image": _image,
    "metrics": lambda where, value: _words(where, value, METRICS),
}
KEYS = ("method", "args", *_CHECKS)
_FIELD_NAMES = {"return": "returns"}
