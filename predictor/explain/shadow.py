"""A copy of a model that explanations may hook, sharing every weight with the one that predicts.

Hooks belong to a module, so an explanation that sets them on the serving model breaks predictions. The
copy costs milliseconds and no memory for weights. Its parameters need no gradients: a backward pass goes
to the inputs alone, and nothing of it can end in the weights that serve.
"""

from __future__ import annotations

import copy
import enum
from typing import Any

import torch


class ModelKind(enum.Enum):
    """How a model was made, which decides what can be asked of it; the value is for people."""

    EAGER = "an eager module"
    TORCHSCRIPT = "TorchScript"
    EXPORTED = "an exported program"
    CALLABLE = "a function without gradients"


def kind_of(model: Any) -> ModelKind:
    """Tell the kind of a model; a compiled module counts as the eager one inside it.

    A module that only stands for something else says so itself, in its attribute `model_kind`.
    """
    model = unwrap(model)
    told = getattr(model, "model_kind", None)
    if isinstance(told, ModelKind):
        return told
    if isinstance(model, torch.jit.ScriptModule):
        return ModelKind.TORCHSCRIPT
    if isinstance(model, torch.fx.GraphModule):
        # What ExportedProgram.module() returns; torch.fx traces are no better for hooks.
        return ModelKind.EXPORTED
    if isinstance(model, torch.nn.Module):
        return ModelKind.EAGER
    return ModelKind.CALLABLE


def unwrap(model: Any) -> Any:
    """Return the eager module inside a compiled one: hooks set after compilation are not seen."""
    return getattr(model, "_orig_mod", model)


def is_recurrent(model: Any) -> bool:
    """Tell whether a model has recurrent layers, LSTM, GRU and their like, somewhere inside."""
    model = unwrap(model)
    if isinstance(model, torch.jit.ScriptModule):
        written = str(model.inlined_graph)
        return any(f"aten::{name}" in written for name in _RECURRENT)
    if isinstance(model, torch.fx.GraphModule):
        called = [str(node.target).removeprefix("aten.") for node in model.graph.nodes]
        if any(name.startswith(_RECURRENT) for name in called):
            return True
    if isinstance(model, torch.nn.RNNBase):
        return True
    return isinstance(model, torch.nn.Module) and any(map(is_recurrent, model.children()))


_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def shadow_copy(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of an eager module, in evaluation mode, which shares its parameters and buffers.

    Raises:
        Exception: whatever copying the module's other attributes raises.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = torch.nn.Parameter(parameter.detach(), requires_grad=False)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer
    return copy.deepcopy(model, memo).eval()
