"""A faster way through a model with the same numbers, taken only where a trial shows that they are."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from predictor.explain.affine import affine_prefix, cut
from predictor.explain.examples import gradients_of
from predictor.explain.folding import CONVOLUTIONS, fold
from predictor.explain.layout import channels_last
from predictor.explain.outputs import Reading, first_output
from predictor.explain.shadow import ModelKind, shadow_copy

logger = logging.getLogger(__name__)

_MOST_SHAPES = 64
# What another order of sums may change, and nothing wrong comes near, as shares of the greatest output and of
# the gradient's length. A gradient jumps where rounding turns an activation on or off: in a ResNet-18 the
# mean of ten was up to 2e-3 away from what double precision gives, the model's own as often as ours.
_OUTPUT_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 0.05
_DTYPES = (torch.float32, torch.float64)
Tensors = Sequence[torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Route:
    """A model that is called with all of its arguments, in two parts where it begins affinely.

    Attributes:
        tail: takes the model's arguments, with what `head` returns in the place of one.
        head: an affine function of one argument; None where there is none, and `tail` is the whole.
        position: of the argument that `head` takes.
        numbers: in one row of what `head` returns, 0 while that is not known.
    """

    tail: Callable[..., Any]
    head: Callable[[torch.Tensor], torch.Tensor] | None = None
    position: int = 0
    numbers: int = 0

    def __call__(self, *arguments: torch.Tensor) -> Any:
        """Return what the model returns."""
        if self.head is None:
            return self.tail(*arguments)
        given = list(arguments)
        given[self.position] = self.head(given[self.position])
        return self.tail(*given)


class Shortcut:
    """Finds the faster way through one model: affine operations cut off, normalisations folded.

    Code that cannot be traced, or then answers otherwise, is left alone, and only the log tells. The first
    call traces, and no other thread may call any module meanwhile: torch.fx patches their class.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        kind: ModelKind,
        plain: Callable[..., Any],
        read: Reading = first_output,
    ) -> None:
        """Prepare a way around `plain`, which calls `model`, an eager module or an exported program.

        Args:
            read: reads the model's outputs.
        """
        self._model = model
        self._read = read
        self._kind = kind
        self._plain = Route(plain)
        self._traced: Route | None = None
        self._is_traced = False
        self._versions: list[int] = []
        self._fitting: dict[tuple[Any, ...], Route | None] = {}

    def route(self, *arguments: torch.Tensor | None) -> Route | None:
        """Return the faster way for arguments of these shapes, None where there is none.

        Every new shape is tried on its first row: outputs and gradients must be the model's. Once weights
        have changed there is none any more: it holds copies of some.
        """
        if self._traced is not None and self._versions != _versions(self._model):
            self._traced = None
            self._fitting.clear()
        tensors = [argument for argument in arguments if argument is not None]
        if len(tensors) < len(arguments) or not any(tensor.dtype in _DTYPES for tensor in tensors):
            return None
        key = tuple((tensor.shape[1:], tensor.dtype, tensor.device) for tensor in tensors)
        if key not in self._fitting:
            rows = [tensor[:1].detach() for tensor in tensors]
            if not all(bool(torch.isfinite(row).all()) for row in rows):
                return None  # an example that can prove nothing
            if len(self._fitting) >= _MOST_SHAPES:
                self._fitting.clear()
            self._fitting[key] = self._tried(rows)
        return self._fitting[key]

    def _tried(self, rows: Tensors) -> Route | None:
        try:
            with torch.inference_mode(False), torch.enable_grad():
                if not self._is_traced:
                    self._is_traced = True
                    self._versions = _versions(self._model)
                    self._traced = trace(self._model, self._kind)
                if self._traced is not None and _agree(self._traced, self._plain, rows, self._read):
                    return _measured(self._traced, rows)
        except Exception as error:  # noqa: BLE001 - the model's own code, which may not like to be traced
            logger.info("explanations take no shortcut through the model: %s", error)
        return None


def _measured(route: Route, rows: Tensors) -> Route:
    if route.head is None:
        return route
    with torch.no_grad():
        return dataclasses.replace(route, numbers=route.head(rows[route.position]).numel())


def trace(model: torch.nn.Module, kind: ModelKind) -> Route | None:
    """Return a faster way through a model in evaluation mode, untried; None where there is nothing to gain.

    Raises:
        Exception: whatever the model's code raises that does not like to be traced.
    """
    if kind is ModelKind.EXPORTED and isinstance(model, fx.GraphModule):
        graph = model
    elif kind is ModelKind.EAGER:
        # Traced code may keep what it is given, so it is given to a copy.
        copied = shadow_copy(model)
        graph = fx.GraphModule(copied, _Tracer().trace(copied))
    else:
        return None
    found = affine_prefix(graph)
    if found is None:
        has_convolutions = any(isinstance(part, CONVOLUTIONS) for part in model.modules())
        return Route(_Laid(fold(graph))) if has_convolutions and kind is ModelKind.EAGER else None
    head, tail = cut(graph, *found)
    return Route(_Laid(fold(tail)), _Laid(head), found[0])


class _Tracer(fx.Tracer):
    """Refuses what a graph would not tell: that a part of the model's code lets no gradients through."""

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Note an operation.

        Raises:
            RuntimeError: it stands under `torch.no_grad`.
        """
        if not torch.is_grad_enabled():
            raise RuntimeError("some of its code runs under torch.no_grad, of which a graph knows nothing")
        return super().create_node(*args, **kwargs)


def _versions(model: torch.nn.Module) -> list[int]:
    """Return numbers that change when a weight is written to; a copy that shares it sees that, too."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return [tensor._version for tensor in tensors]


class _Laid:
    """A graph whose pictures lie channels last."""

    def __init__(self, graph: fx.GraphModule) -> None:
        self._graph = graph

    def __call__(self, *arguments: torch.Tensor) -> Any:
        return self._graph(*(channels_last(argument) for argument in arguments))


def _agree(route: Route, plain: Route, rows: Tensors, read: Reading) -> bool:
    """Tell whether two ways give the same outputs and gradients for a row."""
    if route.head is not None and not _is_affine(route.head, rows[route.position]):
        return False
    output, slopes = _run(route, rows, read)
    expected, expected_slopes = _run(plain, rows, read)
    return _is_close(output, expected, _OUTPUT_TOLERANCE) and all(
        float((slope - other).norm()) <= GRADIENT_TOLERANCE * float(other.norm())
        for slope, other in zip(slopes, expected_slopes, strict=True)
    )


def _is_affine(head: Callable[[torch.Tensor], torch.Tensor], row: torch.Tensor) -> bool:
    with torch.no_grad():
        whole, half, nothing = head(torch.cat([row, row / 2, torch.zeros_like(row)]))
    return _is_close(half, (whole + nothing) / 2, _OUTPUT_TOLERANCE)


def _run(route: Route, tensors: Tensors, read: Reading) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the outputs, and the gradients of a mixture of its numbers, in two steps if need be."""
    leaves = [t.clone().requires_grad_() if t.is_floating_point() else t for t in tensors]
    middle = list(leaves)
    hidden = leaves[route.position]
    if route.head is not None:
        hidden = route.head(hidden)
        middle[route.position] = hidden.detach().requires_grad_()
    output = read(route.tail(*middle))
    # Sums of probabilities are constant, so that each number has a weight of its own.
    mixture = torch.arange(output.numel(), device=output.device).reshape(output.shape).cos()
    wanted = [leaf for leaf in middle if leaf.requires_grad]
    slopes = gradients_of(output, wanted, mixture)
    if route.head is not None:
        place = next(index for index, leaf in enumerate(wanted) if leaf is middle[route.position])
        slopes[place] = gradients_of(hidden, [leaves[route.position]], slopes[place])[0]
    return output.detach(), slopes


def _is_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    room = tolerance * float(expected.abs().max()) if expected.numel() else 0.0
    return bool(((found - expected).abs() <= room + 1e-30).all())
