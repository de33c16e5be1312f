"""The affine beginning of a model, as a graph of torch.fx: what maps straight lines to straight lines.

Integrated gradients walks such a line. Through convolutions, linear layers, batch normalisation with fixed
statistics and average pooling it stays one: these need a forward pass at its two ends only, and since their
backward pass is linear, the sum of all gradients goes back through them once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

_aten = torch.ops.aten
_CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(functional.conv1d, functional.conv2d, functional.conv3d),
    *(_aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default),
)
_LINEAR = (nn.Linear, functional.linear, _aten.linear.default)
# Affine in their first argument whatever the others are, as long as these do not depend on the input. Exact
# types: a class that derives from one of these may do anything.
_ALWAYS = frozenset(
    (
        *_CONVOLUTIONS,
        *_LINEAR,
        *(nn.Identity, nn.Flatten, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
        *(nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d),
        *(torch.flatten, torch.unsqueeze, torch.permute, torch.transpose, torch.true_divide, torch.div),
        *(functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.pad),
        *(_aten.flatten.using_ints, _aten.view.default, _aten.reshape.default, _aten.permute.default),
        *(_aten.unsqueeze.default, _aten.avg_pool2d.default, _aten.adaptive_avg_pool2d.default),
        *(operator.truediv, _aten.div.Tensor, "flatten", "permute", "unsqueeze", "contiguous", "div"),
    )
)
# Affine in either argument while the other one is constant.
_EITHER = frozenset(
    (
        *(operator.add, operator.sub, operator.mul, torch.add, torch.sub, torch.mul),
        *(_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, "add", "sub", "mul"),
    )
)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
# Which argument says whether the function behaves as in training, and what it means when it is left out.
_MODES: dict[Any, tuple[int, bool]] = {
    functional.dropout: (2, True),
    functional.batch_norm: (5, False),
    _aten.dropout.default: (2, True),
    _aten.batch_norm.default: (5, True),
}
# A smaller layer is not worth the calls that cutting costs; a convolution always is.
_LEAST_WEIGHTS = 65_536
# What exported programs call to check the shapes of their arguments; nothing comes of it.
_GUARDS = "_guards_fn"


def affine_prefix(module: fx.GraphModule) -> tuple[int, fx.Node] | None:
    """Find an argument that goes through affine operations first, and through nothing beside them.

    Returns:
        The argument's position and the last of the operations; None where there are none, or too little
        to be worth while.
    """
    places = [node for node in module.graph.nodes if node.op == "placeholder"]
    for position, place in enumerate(places):
        chain = _chain(module, place)
        if any(_is_work(module, node) for node in chain):
            return position, chain[-1]
    return None


def _chain(module: fx.GraphModule, place: fx.Node) -> list[fx.Node]:
    chain: list[fx.Node] = []
    last = place
    while True:
        users = [user for user in last.users if user.target != _GUARDS]
        if len(users) != 1 or not _is_affine(module, users[0], last):
            return chain
        last = users[0]
        chain.append(last)


def _is_affine(module: fx.GraphModule, node: fx.Node, source: fx.Node) -> bool:
    """Tell whether `node` is an affine function of `source`."""
    others = [other for other in node.all_input_nodes if other is not source]
    given = [*node.args, *node.kwargs.values()]
    if any(other.op != "get_attr" for other in others) or sum(arg is source for arg in given) != 1:
        return False
    place = next((index for index, arg in enumerate(node.args) if arg is source), None)
    if node.op == "call_module":
        return place == 0 and _is_affine_module(module.get_submodule(str(node.target)))
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target in _MODES:
        return place == 0 and not _in_training(node, *_MODES[node.target])
    return (place == 0 and node.target in _ALWAYS) or (place in (0, 1) and node.target in _EITHER)


def _is_affine_module(part: nn.Module) -> bool:
    if has_hooks(part) or part.training:
        return False
    if type(part) in _NORMALISATIONS:
        return getattr(part, "running_mean", None) is not None
    return type(part) in _ALWAYS or type(part) in _DROPOUTS


def has_hooks(part: nn.Module) -> bool:
    """Tell whether calling the module runs more than its `forward`; some parametrizations are such hooks."""
    return bool(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks)


def _in_training(node: fx.Node, position: int, default: bool) -> bool:
    given = node.args[position] if len(node.args) > position else node.kwargs.get("training", default)
    return given is not False


def _is_work(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        part = module.get_submodule(str(node.target))
        weight = getattr(part, "weight", None)
        kind: Any = type(part)
    else:
        kind, weight = node.target, None
        if len(node.args) > 1 and isinstance(node.args[1], fx.Node):
            weight = _attribute(module, str(node.args[1].target))
    if kind in _CONVOLUTIONS:
        return True
    return kind in _LINEAR and isinstance(weight, torch.Tensor) and weight.numel() >= _LEAST_WEIGHTS


def _attribute(module: nn.Module, target: str) -> Any:
    return operator.attrgetter(target)(module)


def cut(module: fx.GraphModule, position: int, last: fx.Node) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Cut a graph behind its affine prefix, as `affine_prefix` found it.

    Returns:
        The prefix, which takes the one argument, and the rest, which takes all arguments with the prefix's
        output in the place of that one. Both share the module's weights.
    """
    places = [node for node in module.graph.nodes if node.op == "placeholder"]
    before = _ancestors(last)
    head, tail = fx.Graph(), fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        if node in before:
            known[node] = head.node_copy(node, known.__getitem__)
    head.output(known[last])
    known = {}
    for node in module.graph.nodes:
        if node is places[position]:
            known[last] = tail.placeholder("straight")
        elif (node not in before or node.op == "get_attr") and node.target != _GUARDS:
            known[node] = tail.node_copy(node, known.__getitem__)
    return fx.GraphModule(module, head), _without_overwriting(fx.GraphModule(module, tail), known[last])


def _ancestors(last: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    waiting = [last]
    while waiting:
        node = waiting.pop()
        found.add(node)
        waiting += node.all_input_nodes
    return found


def _without_overwriting(tail: fx.GraphModule, place: fx.Node) -> fx.GraphModule:
    """Let nothing work in place on the tail's argument: gradients are asked for there."""
    users = list(place.users)
    if len(users) == 1 and _is_relu(tail, users[0]):
        with tail.graph.inserting_after(users[0]):
            plain = tail.graph.call_function(torch.relu, (place,))
        users[0].replace_all_uses_with(plain)
        tail.graph.erase_node(users[0])
    elif any(_works_in_place(tail, user) for user in users):
        with tail.graph.inserting_before(users[0]):
            copy = tail.graph.call_method("clone", (place,))
        place.replace_all_uses_with(copy, delete_user_cb=lambda user: user is not copy)
    tail.recompile()
    return tail


def _is_relu(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    part = module.get_submodule(str(node.target))
    return type(part) is nn.ReLU and not has_hooks(part)


def _works_in_place(module: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    target: str | Callable[..., Any] = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    in_place = name.endswith("_") or name.split(".")[0].endswith("_") or name in _AUGMENTED
    return bool(node.kwargs.get("inplace")) or in_place


_AUGMENTED = ("iadd", "isub", "imul", "itruediv")
