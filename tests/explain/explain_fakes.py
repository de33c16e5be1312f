"""Small networks and batches for tests of explanations."""

from __future__ import annotations

import torch
from torch import nn

from predictor.explain.attribution import attribute
from predictor.explain.budget import Budget, Limits
from predictor.explain.examples import Attributed, Examples, Subject
from predictor.explain.methods import find_method
from predictor.explain.shadow import kind_of, shadow_copy


class SmallCnn(nn.Module):
    """A network whose every activation is a module used once."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.linear = nn.Linear(6 * 6 * 6, 5)

    def forward(self, image):
        hidden = self.pool(self.relu1(self.conv1(image)))
        return self.linear(self.relu2(self.conv2(hidden)).flatten(1))


class FunctionalMlp(nn.Module):
    """A network whose activations are functions, which hooks cannot see."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 3)

    def forward(self, features):
        return self.second(torch.relu(self.first(features)))


class TwoInputs(nn.Module):
    """A network with two inputs and one output without an axis of its own."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(3, 4)
        self.right = nn.Linear(2, 4)

    def forward(self, left, right):
        return torch.tanh(self.left(left) + self.right(right)).prod(dim=1)


def make(cls, seed=0):
    torch.manual_seed(seed)
    return cls().eval()


def images(rows=3, seed=1):
    return torch.randn(rows, 2, 12, 12, generator=torch.Generator().manual_seed(seed))


def features(rows=4, seed=2):
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))


def examples(inputs, targets, baselines=None, groups=None, background=(), extras=(), seeds=None) -> Examples:
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    rows = len(inputs[0])
    targets = torch.as_tensor(targets)
    if groups is None:
        groups, start = [], 0
        for tensor in inputs:
            size = tensor[0].numel()
            groups.append(
                torch.arange(start, start + size).reshape(tensor.shape[1:]).expand_as(tensor).contiguous()
            )
            start += size
    return Examples(
        inputs=inputs,
        baselines=baselines or tuple(torch.zeros_like(tensor) for tensor in inputs),
        extras=extras,
        groups=tuple(groups),
        targets=targets.reshape(rows, -1),
        owners=torch.arange(rows),
        seeds=tuple(seeds or range(rows)),
        background=background,
    )


def subject(model, probability=False) -> Subject:
    kind = kind_of(model)
    module = shadow_copy(model) if kind.name == "EAGER" else None
    return Subject(module or model, kind, module, probability)


def run(method, model, batch: Examples, limits=None, probability=False, **args) -> Attributed:
    chosen = find_method(method)
    budget = Budget(limits or Limits(), len(batch))
    return attribute(chosen, subject(model, probability), batch, budget, chosen.arguments(args))
