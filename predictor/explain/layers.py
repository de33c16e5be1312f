"""Methods that set hooks: Grad-CAM and DeepLIFT. Only ever on a shadow copy of an eager module."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from predictor.errors import InvalidInput
from predictor.explain.budget import Budget
from predictor.explain.examples import Attributed, Examples, Subject, Tensors, evaluate, total
from predictor.explain.methods import Args

# DeepLIFT's rule makes attributions add up exactly, up to rounding; a gap means that it missed an
# activation, and then its numbers mean nothing. Only for maximum pooling the rule is itself inexact where
# several numbers share the maximum, as zeros after a ReLU do: 9 % were measured.
_MAX_GAP = 0.01
_MAX_GAP_WITH_POOLING = 0.25
_POOLING = (torch.nn.MaxPool1d, torch.nn.MaxPool2d, torch.nn.MaxPool3d)


def convolutions(module: torch.nn.Module) -> list[str]:
    """Return the names of the two-dimensional convolutions, in the order of their declaration."""
    return [name for name, part in module.named_modules() if isinstance(part, torch.nn.Conv2d)]


def grad_cam(subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Weigh the channels of a convolution's output by their mean gradients and add them up.

    The attributions have one channel, in the size of the picture.

    Raises:
        InvalidInput: the layer is none of the model's convolutions, or is not used just once.
    """
    module = _module(subject)
    layer = _layer(module, str(args["layer"]))
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    picture = next(index for index, tensor in enumerate(examples.inputs) if tensor.dim() == 4)
    size = examples.inputs[picture].shape[2:]
    parts = []
    try:
        for part in budget.chunks(len(examples), examples.numbers, examples.device):
            seen.clear()
            budget.spend(examples.owners[part], backward=examples.targets.shape[1])
            parts.append(_maps(subject, examples, part, seen))
    finally:
        handle.remove()
    maps = torch.cat(parts)
    if args["relu"]:
        maps = maps.relu()
    corners = False if args["interpolate"] == "bilinear" else None
    maps = torch.nn.functional.interpolate(
        maps, size=tuple(size), mode=args["interpolate"], align_corners=corners
    ).unsqueeze(2)
    values = [tensor.new_zeros((len(tensor), maps.shape[1], *tensor.shape[1:])) for tensor in examples.inputs]
    values[picture] = maps
    return Attributed(tuple(values), shared=True)


def _maps(subject: Subject, examples: Examples, part: slice, seen: list[torch.Tensor]) -> torch.Tensor:
    """Return the coarse maps of some rows, [rows, targets, height, width]."""
    with torch.enable_grad():
        leaves = [tensor[part].detach().requires_grad_() for tensor in examples.inputs]
        scores = subject.scores(leaves, [tensor[part] for tensor in examples.extras])
        if len(seen) != 1 or seen[0].dim() != 4:
            raise InvalidInput(
                f"explain.args.layer: this layer runs {len(seen)} times; grad_cam needs one that runs once "
                "and gives maps"
            )
        chosen = scores.gather(1, examples.targets[part])
        columns = chosen.shape[1]
        found = [
            torch.autograd.grad(chosen[:, column].sum(), seen[0], retain_graph=column + 1 < columns)[0]
            for column in range(columns)
        ]
    activation = seen[0].detach()
    maps = [(gradient.mean(dim=(2, 3), keepdim=True) * activation).sum(dim=1) for gradient in found]
    return torch.stack(maps, dim=1)


def _layer(module: torch.nn.Module, name: str) -> torch.nn.Module:
    names = convolutions(module)
    if name and name not in names:
        raise InvalidInput(f"explain.args.layer must be one of {', '.join(names)}; got {name!r}")
    return module.get_submodule(name or names[-1])


def deep_lift(subject: Subject, examples: Examples, budget: Budget, args: Args) -> Attributed:
    """Return DeepLIFT's attributions (rescale rule), computed by Captum.

    Raises:
        InvalidInput: the model has activations that the rule does not see, which shows in the delta.
    """
    if subject.probability:
        raise InvalidInput("explain.output must be 'logit' for deep_lift: its rule does not cross a softmax")
    from captum.attr import DeepLift  # slow to import, and needed here only

    method = DeepLift(_Scores(subject))
    columns = []
    for column in range(examples.targets.shape[1]):
        parts = [
            _deep_lift(method, examples, budget, column, part)
            for part in budget.chunks(len(examples), examples.numbers * 2, examples.device)
        ]
        columns.append(tuple(torch.cat(some) for some in zip(*parts, strict=True)))
    values = tuple(torch.stack(some, dim=1) for some in zip(*columns, strict=True))
    _check_complete(subject, examples, budget, values)
    return Attributed(values)


def _deep_lift(method: Any, examples: Examples, budget: Budget, column: int, part: slice) -> Tensors:
    """Return the attributions of some rows to one of their targets."""
    budget.spend(examples.owners[part], backward=1)
    budget.spend(examples.owners[part])
    with warnings.catch_warnings(), torch.enable_grad():
        # It warns of its hooks, and of inputs that need no gradients yet; both are meant.
        warnings.simplefilter("ignore")
        try:
            found = method.attribute(
                tuple(tensor[part].detach().clone() for tensor in examples.inputs),
                tuple(tensor[part] for tensor in examples.baselines),
                target=examples.targets[part, column],
                additional_forward_args=tuple(tensor[part] for tensor in examples.extras) or None,
            )
        except RuntimeError as error:
            if "DeepLift" not in str(error):
                raise
            raise InvalidInput(
                "explain.method 'deep_lift' does not hold for this model: an activation is used twice"
            ) from error
    return tuple(tensor.detach() for tensor in found)


def _check_complete(subject: Subject, examples: Examples, budget: Budget, values: Tensors) -> None:
    ends = [
        evaluate(subject, tensors, examples.extras, examples.owners, budget).gather(1, examples.targets)
        for tensors in (examples.inputs, examples.baselines)
    ]
    difference = ends[0] - ends[1]
    size = torch.stack([value.flatten(2).abs().sum(dim=2) for value in values]).sum(dim=0)
    gap = (total(values) - difference).abs() / torch.maximum(difference.abs(), size).clamp(min=1e-6)
    # Where there are no numbers, the answer's own check says so.
    worst = float(torch.nan_to_num(gap, nan=0.0, posinf=0.0).max())
    pools = any(isinstance(part, _POOLING) for part in _module(subject).modules())
    if not worst <= (_MAX_GAP_WITH_POOLING if pools else _MAX_GAP):
        raise InvalidInput(
            f"explain.method 'deep_lift' does not hold for this model: its attributions miss {worst:.0%} of "
            "the output. Every activation must be a module of torch.nn that is used once (nn.ReLU, not "
            "torch.relu), of a kind that DeepLIFT knows"
        )


class _Scores(torch.nn.Module):
    """The subject as a module whose children Captum can hook."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.inner = _module(subject)
        self._subject = subject

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self._subject.scores(tensors)


def _module(subject: Subject) -> torch.nn.Module:
    if subject.module is None:
        raise InvalidInput(f"This method sets hooks, and the model is {subject.kind.value}")
    return subject.module
