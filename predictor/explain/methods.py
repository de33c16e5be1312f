"""The methods that are offered: their parameters and limits, what they need, and what they cost.

Nothing here computes; `attribution.py` does. A method is valid for a model when the model has all that
the method needs; hook-based methods silently give wrong numbers on anything but an eager module, so
they are refused there.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from typing import Any

from predictor.errors import InvalidInput

Args = Mapping[str, Any]

MAX_SHAPLEY_PLAYERS = 16
"""2^16 coalitions are 65,536 forward rows; each further feature doubles that."""


class Need(enum.Enum):
    """What a method asks of a model; the value completes the sentence "it needs ..."."""

    GRADIENTS = "gradients with respect to its inputs"
    EAGER = "an eager PyTorch module, because it sets hooks (not TorchScript, not torch.export)"
    CONVOLUTION = "a convolution"
    IMAGE = "a picture as input"
    FEW_PLAYERS = f"at most {MAX_SHAPLEY_PLAYERS} features (or fewer groups: see 'grid')"


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One key of `args`.

    Attributes:
        default: also tells the type: bool, int, float or str; a word among `words` is allowed beside it.
        low: least number allowed.
        high: greatest number allowed.
        words: texts allowed.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    words: tuple[str, ...] = ()
    whole: bool = False

    def check(self, value: Any) -> Any:
        """Return `value` if it is allowed.

        Raises:
            InvalidInput: it is not; the message says what is.
        """
        if isinstance(value, str) and (value in self.words or (not self.words and self.is_text)):
            return value
        if isinstance(self.default, bool) and isinstance(value, bool):
            return value
        if self._is_number(value):
            return value
        raise InvalidInput(f"explain.args.{self.name} must be {self.allowed()}, got {value!r}")

    @property
    def is_text(self) -> bool:
        """Whether any text is allowed."""
        return isinstance(self.default, str) and not self.words

    def allowed(self) -> str:
        """Say for people which values are allowed."""
        if isinstance(self.default, bool):
            return "true or false"
        if self.is_text:
            return "a text"
        words = " or ".join(repr(word) for word in self.words)
        if self.low is None:
            return words
        number = f"{'a whole number' if self.whole else 'a number'} from {self.low:g} to {self.high:g}"
        return f"{words} or {number}" if words else number

    def _is_number(self, value: Any) -> bool:
        if self.low is None or self.high is None or isinstance(value, (bool, str)):
            return False
        if not isinstance(value, int) and (self.whole or not isinstance(value, float)):
            return False
        return math.isfinite(value) and self.low <= value <= self.high


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of explaining.

    Attributes:
        summary: one sentence for people who have never heard of it.
        needs: what it asks of the model.
        uses_baseline: whether the answer depends on the baseline.
        is_complete: its attributions add up to the difference of output and baseline output, so that
            what is missing (the delta) tells how exact they are.
        forwards: rows that one example sends through the model, from the arguments and the number of
            features (or groups of features); rows with a backward pass count three times in the cost.
        with_gradients: whether these rows also go backward.
    """

    name: str
    summary: str
    needs: tuple[Need, ...]
    parameters: tuple[Parameter, ...]
    uses_baseline: bool
    is_complete: bool
    forwards: Callable[[Args, int], int]
    with_gradients: bool

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all arguments: those given, checked, and the defaults of the others.

        Raises:
            InvalidInput: one is unknown or has a bad value; the message names those allowed.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                allowed = ", ".join(known) or "none"
                raise InvalidInput(f"explain.args.{name} is unknown; {self.name} takes: {allowed}")
        arguments = {name: parameter.default for name, parameter in known.items()}
        arguments.update((name, known[name].check(value)) for name, value in given.items())
        return arguments

    def rows(self, args: Args, players: int) -> int:
        """Return the rows that one example costs at most, smoothing included."""
        return self.forwards(args, players) * max(1, int(args.get("noise_samples", 0)))

    def describe(self, players: int) -> dict[str, Any]:
        """Return what a client needs to know, for a model whose inputs have `players` features."""
        rows = self.rows(self.arguments({}), players)
        return {
            "name": self.name,
            "summary": self.summary,
            "uses_baseline": self.uses_baseline,
            "has_delta": self.is_complete,
            "parameters": [
                {
                    "name": parameter.name,
                    "default": parameter.default,
                    "allowed": parameter.allowed(),
                    "description": parameter.description,
                }
                for parameter in self.parameters
            ],
            "cost": {"forward_rows": rows, "backward_rows": rows if self.with_gradients else 0},
        }


_NOISE = (
    Parameter(
        "noise_samples",
        0,
        "average over this many noisy copies of the input (SmoothGrad); 0 for none",
        0,
        200,
        whole=True,
    ),
    Parameter("noise_stdev", 0.1, "standard deviation of that noise, as a share of the input's range", 0, 10),
    Parameter(
        "noise_type",
        "smoothgrad",
        "mean, mean of squares, or variance over the copies",
        words=("smoothgrad", "smoothgrad_sq", "vargrad"),
    ),
)
_PRECISION = Parameter(
    "precision",
    "float32",
    "'bfloat16' is faster on devices that compute in it, and coarser; others refuse it",
    words=("float32", "bfloat16"),
)
_GRID = Parameter(
    "grid", 7, "a picture is cut into grid x grid squares, each switched as one", 1, 64, whole=True
)
# What `n_steps: "auto"` usually ends at; the limit is max_steps.
_FIRST_STEPS = 8


def _steps(args: Args, players: int) -> int:
    return int(args["max_steps"]) * 2 if args["n_steps"] == "auto" else int(args["n_steps"])


def _one(args: Args, players: int) -> int:
    return 1


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "integrated_gradients",
            "Walks from the baseline to the input and adds up how the output changes with each value.",
            (Need.GRADIENTS,),
            (
                Parameter(
                    "n_steps",
                    "auto",
                    "points on the way; 'auto' doubles them from 8 until the delta is small enough",
                    1,
                    1000,
                    ("auto",),
                    whole=True,
                ),
                Parameter("tolerance", 0.01, "relative delta at which 'auto' is content", 1e-6, 1),
                Parameter("max_steps", 128, "where 'auto' gives up", 8, 1024, whole=True),
                _PRECISION,
                *_NOISE,
            ),
            uses_baseline=True,
            is_complete=True,
            forwards=_steps,
            with_gradients=True,
        ),
        Method(
            "saliency",
            "How much the output moves when a value moves a little; the quickest look.",
            (Need.GRADIENTS,),
            (Parameter("abs", True, "drop the sign"), _PRECISION, *_NOISE),
            uses_baseline=False,
            is_complete=False,
            forwards=_one,
            with_gradients=True,
        ),
        Method(
            "input_x_gradient",
            "The slope at the input times the input: exact for linear models, rough for others.",
            (Need.GRADIENTS,),
            (_PRECISION, *_NOISE),
            uses_baseline=False,
            is_complete=False,
            forwards=_one,
            with_gradients=True,
        ),
        Method(
            "gradient_shap",
            "Integrated gradients at random points towards random baselines: a quick estimate.",
            (Need.GRADIENTS,),
            (
                Parameter("n_samples", 20, "random points", 1, 1000, whole=True),
                Parameter(
                    "stdev",
                    0.0,
                    "noise added to the input, as a share of its distance to the baseline",
                    0,
                    10,
                ),
                _PRECISION,
            ),
            uses_baseline=True,
            is_complete=True,
            forwards=lambda args, players: int(args["n_samples"]),
            with_gradients=True,
        ),
        Method(
            "deep_lift",
            "Compares every activation with its value at the baseline, in one pass.",
            (Need.GRADIENTS, Need.EAGER),
            _NOISE,
            uses_baseline=True,
            is_complete=True,
            forwards=lambda args, players: 2,
            with_gradients=True,
        ),
        Method(
            "grad_cam",
            "Where the last convolution saw what speaks for the target: coarse, and very cheap.",
            (Need.GRADIENTS, Need.EAGER, Need.CONVOLUTION, Need.IMAGE),
            (
                Parameter("layer", "", "name of a convolution; the last one by default"),
                Parameter("relu", True, "keep only what speaks for the target"),
                Parameter(
                    "interpolate",
                    "bilinear",
                    "how the coarse map is enlarged",
                    words=("bilinear", "nearest"),
                ),
                *_NOISE,
            ),
            uses_baseline=False,
            is_complete=False,
            forwards=_one,
            with_gradients=True,
        ),
        Method(
            "feature_ablation",
            "What the output loses when one feature, word or square of the picture is taken away.",
            (),
            (_GRID,),
            uses_baseline=True,
            is_complete=False,
            forwards=lambda args, players: players,
            with_gradients=False,
        ),
        Method(
            "occlusion",
            "Slides a square over the picture and shows what the output loses under it.",
            (Need.IMAGE,),
            (
                Parameter("window", "auto", "side of the square in pixels", 1, 4096, ("auto",), whole=True),
                Parameter("stride", "auto", "pixels between two places", 1, 4096, ("auto",), whole=True),
            ),
            uses_baseline=True,
            is_complete=False,
            forwards=lambda args, players: 196,
            with_gradients=False,
        ),
        Method(
            "shapley_exact",
            "The fair share of every feature over all coalitions: exact, for a handful of features.",
            (Need.FEW_PLAYERS,),
            (dataclasses.replace(_GRID, default=3, high=4),),
            uses_baseline=True,
            is_complete=True,
            forwards=lambda args, players: 2 ** min(players, 60),
            with_gradients=False,
        ),
        Method(
            "kernel_shap",
            "An estimate of the Shapley values from random coalitions, for any number of features.",
            (),
            (Parameter("n_samples", 200, "coalitions", 8, 10000, whole=True), _GRID),
            uses_baseline=True,
            is_complete=True,
            forwards=lambda args, players: int(args["n_samples"]),
            with_gradients=False,
        ),
    )
}


def find_method(name: Any) -> Method:
    """Return the method called `name`.

    Raises:
        InvalidInput: there is none; the message lists all.
    """
    method = METHODS.get(name) if isinstance(name, str) else None
    if method is None:
        raise InvalidInput(f"explain.method must be one of {', '.join(METHODS)}; got {name!r}")
    return method
