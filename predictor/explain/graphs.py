"""Graphs of passes: which shapes are recorded, tried, kept and dropped. Nothing here knows CUDA.

A graph does what the pass did when it was recorded, whatever the model's code would do now. So its answers
are compared with the model's own before they are used, and again and again; any doubt ends all graphs.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch

from predictor.explain.capturing import Captured, Capturing, Run, Tensors, cuda_capturing
from predictor.explain.shadow import ModelKind
from predictor.explain.shortcut import GRADIENT_TOLERANCE

logger = logging.getLogger(__name__)

_MOST_GRAPHS = 8
_MOST_SHAPES = 64
# Recording and trying cost about ten passes, which a shape that comes seldom does not earn.
_FIRST_TRY = 3
# After being dropped, so many times the passes so far: shapes that oust each other soon keep out of the way.
_LATER = 4
_ROUNDS = 2
# Less gain is not worth the memory.
_LEAST_GAIN = 0.9
_CHECK_EVERY = 64


@dataclasses.dataclass
class _Shape:
    """What is known of a pass of one shape.

    Attributes:
        passes: so far.
        due: the pass with which a graph is tried; None for never.
        graph: what is run instead.
        replays: passes that it has run, or was compared with.
    """

    passes: int = 0
    due: int | None = _FIRST_TRY
    graph: Captured | None = None
    replays: int = 0

    def drop(self) -> None:
        """Have no graph any more, and none for long."""
        if self.graph is not None:
            self.graph.drop()
            self.graph, self.replays, self.due = None, 0, _LATER * self.passes


class Graphs:
    """The graphs of one model's passes."""

    def __init__(self, capturing: Capturing, model: torch.nn.Module) -> None:
        """Record with `capturing` what calls `model`, which is in evaluation mode."""
        self._capturing = capturing
        self._model = model
        self._state: list[Any] = []
        self._shapes: OrderedDict[Hashable, _Shape] = OrderedDict()
        self._is_off = False

    def renewed(self) -> Graphs:
        """Return these graphs, without any if what they took down of the model is no longer so.

        To be called before each explanation: graphs know places in memory, and no Python.
        """
        if not self._is_off:
            try:
                state = _state(self._model)
            except RuntimeError as error:
                self._stop(f"it cannot be seen whether its weights change: {error}")
            else:
                if state != self._state:
                    self._drop_all()
                self._state = state
        return self

    def run(self, one_pass: Run, tensors: Tensors) -> Tensors:
        """Return `one_pass(tensors)`, by a graph if there is one for it.

        Args:
            one_pass: equal to another that does the same; a function of nothing but `tensors`.

        Raises:
            Exception: whatever the pass raises.
        """
        if self._is_off:
            return one_pass(tensors)
        try:
            shape = self._shape((one_pass, *((part.shape, part.dtype, part.device) for part in tensors)))
        except TypeError as error:
            self._stop(f"its passes cannot be told apart: {error}")
            return one_pass(tensors)
        shape.passes += 1
        if shape.graph is not None and shape.replays % _CHECK_EVERY:
            shape.replays += 1
            found = self._replayed(shape.graph, tensors)
            return one_pass(tensors) if found is None else found
        expected = self._plain(one_pass, tensors)
        if shape.graph is not None:
            self._check(shape, tensors, expected)
        elif shape.due is not None and shape.passes >= shape.due:
            self._try(shape, one_pass, tensors, expected)
        return expected

    def _shape(self, key: Hashable) -> _Shape:
        shape = self._shapes.setdefault(key, _Shape())
        self._shapes.move_to_end(key)
        if len(self._shapes) > _MOST_SHAPES:
            self._shapes.popitem(last=False)[1].drop()
        return shape

    def _plain(self, one_pass: Run, tensors: Tensors) -> Tensors:
        """Return what the pass answers; where graphs have taken its memory it gets that back."""
        try:
            return one_pass(tensors)
        except torch.OutOfMemoryError:
            if not any(shape.graph for shape in self._shapes.values()):
                raise
        self._stop("the device's memory does not hold them beside a pass")
        return one_pass(tensors)

    def _replayed(self, graph: Captured, tensors: Tensors) -> Tensors | None:
        try:
            return graph(tensors)
        except Exception as error:  # noqa: BLE001 - of the device; the pass itself tells what it means
            self._stop(_first_line(error))
            return None

    def _check(self, shape: _Shape, tensors: Tensors, expected: Tensors) -> None:
        """Compare a graph with the pass once more; at first it is with the numbers that it was made with."""
        if shape.graph is None or not _proves(expected):
            return
        found = self._replayed(shape.graph, tensors)
        if found is not None and _agree(found, expected):
            shape.replays += 1
        elif found is not None:
            self._stop("one answers otherwise than the model")

    def _try(self, shape: _Shape, one_pass: Run, tensors: Tensors, expected: Tensors) -> None:
        """Record a pass, and keep it if it is right and faster."""
        if self._is_off or not _proves(expected):
            return
        try:
            graph = self._capturing.capture(one_pass, tensors)
            is_right = _agree(graph(tensors), expected)
            is_faster = is_right and self._is_faster(graph, one_pass, tensors)
        except Exception as error:  # noqa: BLE001 - of the model's code, or of the device
            self._stop(_first_line(error))
            return
        if is_faster:
            shape.graph = graph
            kept = [known for known in self._shapes.values() if known.graph is not None]
            if len(kept) > _MOST_GRAPHS:
                kept[0].drop()
            return
        graph.drop()
        shape.due = None
        if not is_right:
            self._stop("one answers otherwise than the model")

    def _is_faster(self, graph: Captured, one_pass: Run, tensors: Tensors) -> bool:
        seconds = self._capturing.seconds
        ways = (functools.partial(one_pass, tensors), functools.partial(graph, tensors))
        rounds = [tuple(seconds(way) for way in ways) for _ in range(_ROUNDS)]
        plain, replayed = (min(times) for times in zip(*rounds, strict=True))
        return bool(replayed <= _LEAST_GAIN * plain)

    def _drop_all(self) -> None:
        for shape in self._shapes.values():
            shape.drop()

    def _stop(self, reason: str) -> None:
        """Go the plain way from now on: a device that failed once may answer anything."""
        self._is_off = True
        self._drop_all()
        self._shapes.clear()
        logger.warning("explanations go on without CUDA graphs: %s", reason)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _state(model: torch.nn.Module) -> list[Any]:
    """Return what changes when weights are replaced or written to, or when code keeps other values.

    Raises:
        RuntimeError: a tensor does not tell.
    """
    found: list[Any] = []
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        found += (tensor.data_ptr(), tensor._version)
    for part in model.modules():
        for value in vars(part).values():
            if isinstance(value, torch.Tensor):
                found.append(value.data_ptr())
            elif isinstance(value, (bool, int, float, str)):
                found.append(value)
    return found


def _proves(expected: Tensors) -> bool:
    """Tell whether a comparison with these gradients says anything."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in expected) and any(
        bool(tensor.any()) for tensor in expected
    )


def _agree(found: Tensors, expected: Tensors) -> bool:
    return len(found) == len(expected) and all(map(_is_close, found, expected))


def _is_close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Compare gradients [rows, targets, ...], those of each row and target by themselves."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    apart, sizes = ((some.float().flatten(2).norm(dim=2)) for some in (found - expected, expected))
    return bool((apart <= GRADIENT_TOLERANCE * torch.maximum(sizes, sizes.mean())).all())


def graphs_of(model: Any, kind: ModelKind, device: torch.device) -> Graphs | None:
    """Return the graphs of a model whose owner wants some, None where it can have none; the log says why."""
    lacking = None
    if kind is ModelKind.CALLABLE:
        lacking = f"the model is {kind.value}"
    elif device.type != "cuda":
        lacking = "the model is explained on a processor"
    elif kind is not ModelKind.EXPORTED and any(part.training for part in model.modules()):
        lacking = "a part of the model is in training mode"
    if lacking is not None:
        _tell(lacking)
        return None
    index: Any = device.index
    index = torch.cuda.current_device() if index is None else index
    return Graphs(cuda_capturing(index), model)


@functools.cache
def _tell(reason: str) -> None:
    """Say it once in a process: an explainer is made for each shape of a handler's inputs."""
    logger.warning("explain.cuda_graphs has no effect: %s", reason)
