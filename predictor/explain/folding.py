"""Fewer operations for the same numbers: batch normalisations folded into the convolutions before them."""

from __future__ import annotations

import collections
import copy
import math
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from predictor.explain.affine import has_hooks

# Folded weights are copies, and so are weights in another layout; a larger model does without.
_MOST_COPIED_BYTES = 256 << 20
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What normalisations are folded into."""
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold(module: fx.GraphModule) -> fx.GraphModule:
    """Fold batch normalisations into copies of convolutions, and lay convolutions' weights out for a CPU.

    Convolutions on a CPU take pictures channels last in memory, and else reorder their weights in each pass.

    Args:
        module: in evaluation mode; it is changed, but none of the modules that it calls.
    """
    convolutions = [name for name in _called_once(module) if _is_plain(module, name, CONVOLUTIONS)]
    if sum(_bytes(module.get_submodule(name)) for name in convolutions) > _MOST_COPIED_BYTES:
        return module
    for name in convolutions:
        node = next(node for node in module.graph.nodes if node.target == name)
        part = module.get_submodule(name)
        follower = _normalisation_behind(module, node)
        if follower is None:
            part = copy.copy(part)
            part._parameters = dict(part._parameters)
        else:
            part = _folded(part, module.get_submodule(str(follower.target)))
            follower.replace_all_uses_with(node)
            module.graph.erase_node(follower)
        module.set_submodule(name, _laid_out(part))
    module.recompile()
    return module


def _folded(convolution: Any, normalisation: Any) -> nn.Module:
    found: nn.Module = fuse_conv_bn_eval(convolution, normalisation)
    return found


def _called_once(module: fx.GraphModule) -> list[str]:
    calls = collections.Counter(
        str(node.target) for node in module.graph.nodes if node.op in ("call_module", "get_attr")
    )
    return [name for name, count in calls.items() if count == 1]


def _is_plain(module: fx.GraphModule, name: str, kinds: tuple[type[nn.Module], ...]) -> bool:
    try:
        part = module.get_submodule(name)
    except AttributeError:
        return False
    return type(part) in kinds and not has_hooks(part)


def _bytes(part: nn.Module) -> int:
    return sum(math.prod(weight.shape) * weight.element_size() for weight in part.parameters())


def _normalisation_behind(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module" or users[0].args != (node,):
        return None
    name = str(users[0].target)
    if name not in _called_once(module) or not _is_plain(module, name, _NORMALISATIONS):
        return None
    return users[0] if getattr(module.get_submodule(name), "running_mean", None) is not None else None


def _laid_out(part: nn.Module) -> nn.Module:
    for name, weight in part._parameters.items():
        if weight is not None:
            data = weight.detach()
            if data.dim() == 4 and data.device.type == "cpu":
                data = data.contiguous(memory_format=torch.channels_last)
            part._parameters[name] = nn.Parameter(data, requires_grad=False)
    return part
