"""What the methods work on: a function to explain, and a batch of examples to explain it for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from predictor.errors import InvalidInput
from predictor.explain.budget import Budget
from predictor.explain.outputs import OutputReader
from predictor.explain.shadow import ModelKind

if TYPE_CHECKING:
    from predictor.explain.graphs import Graphs

Tensors = tuple[torch.Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Prefix:
    """The affine beginning of the function that is explained.

    Attributes:
        index: of the input that it takes; it takes no other.
        head: maps that input [rows, ...] to hidden numbers [rows, ...], and straight lines to straight lines.
        tail: `Subject.forward` with the hidden numbers in the place of that input.
        numbers: hidden ones in one row.
    """

    index: int
    head: Callable[[torch.Tensor], torch.Tensor]
    tail: Callable[..., Any]
    numbers: int


@dataclasses.dataclass(frozen=True)
class Subject:
    """The function that is explained.

    Attributes:
        forward: called with the inputs and then the extras of `Examples`, returns what the model answers.
        kind: what the model is.
        module: a module that hooks may be set on, which `forward` goes through; None if there is none.
        probability: explain probabilities instead of logits.
        prefix: how `forward` begins, where that is affine; None where it is not, or where it is not known.
        autocast: what convolutions and products of `forward` compute in; None for the model's own.
        read: makes a tensor with a leading batch axis of what the model answers.
        graphs: what may run passes that follow gradients; None for nothing.
    """

    forward: Callable[..., Any]
    kind: ModelKind
    module: torch.nn.Module | None = None
    probability: bool = False
    prefix: Prefix | None = None
    autocast: torch.dtype | None = None
    read: OutputReader = dataclasses.field(default_factory=OutputReader)
    graphs: Graphs | None = None

    def scores(self, inputs: Sequence[torch.Tensor], extras: Sequence[torch.Tensor] = ()) -> torch.Tensor:
        """Run the model once and return its outputs, float [rows, outputs], where the inputs are."""
        output = self.read(self._output((*inputs, *extras)))
        # ONNX Runtime, and handlers around it, answer on the host.
        output = output.to(inputs[0].device)
        scores: torch.Tensor = output.unsqueeze(1) if output.dim() == 1 else output.flatten(1)
        scores = scores if scores.dtype in (torch.float32, torch.float64) else scores.float()
        return as_probabilities(scores) if self.probability else scores

    def _output(self, arguments: Tensors) -> Any:
        if self.autocast is None:
            return self.forward(*arguments)
        with torch.autocast(arguments[0].device.type, self.autocast):
            return self.forward(*arguments)


def as_probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Turn logits [rows, classes] into probabilities; a lone logit is that of the one class."""
    return torch.sigmoid(scores) if scores.shape[1] == 1 else torch.softmax(scores, dim=1)


@dataclasses.dataclass(frozen=True)
class Examples:
    """A batch of examples, each with everything that its explanation depends on.

    Attributes:
        inputs: what attributions are wanted for, each [rows, ...]; floating point for gradients.
        baselines: what they are compared with, in the same shapes.
        extras: further arguments of the model, each [rows, ...], which stay as they are.
        groups: for each number of the inputs, which feature it belongs to, int64, in the inputs' shapes;
            counted on from one input to the next; -1 for what is never switched off (padding).
        targets: indices of the outputs to explain, int64 [rows, targets].
        owners: which example of the batch a row belongs to, int64 [rows], on the host.
        seeds: one for each row.
        background: typical inputs, each [n, ...], for methods that compare with many; empty for none.
    """

    inputs: Tensors
    baselines: Tensors
    extras: Tensors
    groups: Tensors
    targets: torch.Tensor
    owners: torch.Tensor
    seeds: tuple[int, ...]
    background: Tensors = ()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.inputs[0])

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.inputs[0].device

    @property
    def numbers(self) -> int:
        """Numbers in one row of the inputs."""
        return sum(math.prod(tensor.shape[1:]) for tensor in self.inputs)

    def with_inputs(self, inputs: Tensors, index: torch.Tensor) -> Examples:
        """Return other inputs for the rows `index`, whose everything else stays."""
        return Examples(
            inputs=inputs,
            baselines=pick(self.baselines, index),
            extras=pick(self.extras, index),
            groups=pick(self.groups, index),
            targets=self.targets[index],
            owners=self.owners[index.to(self.owners.device)],
            seeds=tuple(self.seeds[row] for row in index.tolist()),
            background=self.background,
        )


@dataclasses.dataclass
class Attributed:
    """What a method found.

    Attributes:
        values: attributions for each input, [rows, targets, ...]. An axis of 1 stands for all of them.
        n_steps: points used for each row, None where there are none.
        converged: for each row and target, whether that was enough for the tolerance that was asked for.
        baseline_scores: mean outputs of what the method compared with, [rows, outputs], where that is not
            the baseline of the examples.
        per_feature: attributions of features, [rows, targets, features], for methods that work on these:
            in `values` every number of a feature then has the whole attribution of its feature, as
            Captum has it.
        shared: the channels of a picture, and the numbers of an embedding, all have the same value.
    """

    values: Tensors
    n_steps: list[int] | None = None
    converged: list[list[bool]] | None = None
    baseline_scores: torch.Tensor | None = None
    per_feature: torch.Tensor | None = None
    shared: bool = False

    def totals(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums of attributions and of their sizes, each [rows, targets], float64."""
        parts = self.values if self.per_feature is None else (self.per_feature,)
        flat = torch.cat([part.flatten(2) for part in parts], dim=2).double()
        return flat.sum(dim=2), flat.abs().sum(dim=2)


def pick(tensors: Tensors, index: torch.Tensor) -> Tensors:
    """Return the rows `index` of each tensor."""
    return tuple(tensor[index] for tensor in tensors)


def evaluate(
    subject: Subject, inputs: Tensors, extras: Tensors, owners: torch.Tensor, budget: Budget
) -> torch.Tensor:
    """Return the outputs of all rows, [rows, outputs], without gradients and in passes of bounded size."""
    numbers = sum(math.prod(tensor.shape[1:]) for tensor in inputs)
    parts = []
    with torch.no_grad():
        for part in budget.chunks(len(inputs[0]), numbers, inputs[0].device):
            budget.spend(owners[part])
            parts.append(subject.scores([t[part] for t in inputs], [t[part] for t in extras]))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def gradients(
    subject: Subject,
    inputs: Tensors,
    extras: Tensors,
    targets: torch.Tensor,
    owners: torch.Tensor,
    budget: Budget,
    weights: torch.Tensor | None = None,
) -> Tensors:
    """Return the gradients of the target outputs, [rows, targets, ...] for each input, in one pass.

    All targets of a row share its forward pass. `weights` [rows], where given, multiply the gradients.

    Raises:
        InvalidInput: the outputs do not depend on the inputs in a way that has gradients.
    """
    budget.spend(owners, backward=targets.shape[1])
    tensors = (*inputs, *extras, targets) if weights is None else (*inputs, *extras, targets, weights)
    graphs = subject.graphs
    if graphs is None:
        return Pass(subject, len(inputs), len(extras))(tensors)
    # Graphs hold passes; if these held graphs, a GPU's memory would wait for the garbage collector.
    return graphs.run(Pass(dataclasses.replace(subject, graphs=None), len(inputs), len(extras)), tensors)


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass through a model and back, as a function of tensors alone.

    Attributes:
        subject: what it goes through.
        inputs: how many of the tensors are inputs; they come first.
        extras: how many are extras; then come the targets and, perhaps, the weights.
    """

    subject: Subject
    inputs: int
    extras: int

    def __call__(self, tensors: Tensors) -> Tensors:
        """Return the gradients as `gradients` does.

        Raises:
            InvalidInput: there are none.
        """
        extras = tensors[self.inputs : self.inputs + self.extras]
        targets, *weights = tensors[self.inputs + self.extras :]
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in tensors[: self.inputs]]
            scores = self.subject.scores(leaves, extras)
            lacking = self.subject.read.without_gradients
            if not scores.requires_grad or (lacking and not lacking.isdisjoint(targets.flatten().tolist())):
                raise InvalidInput(
                    "The model's output has no gradients with respect to its inputs; use a method that needs "
                    "none"
                )
            chosen = scores.gather(1, targets)
            if weights:
                chosen = chosen * weights[0].unsqueeze(1)
            found = [
                gradients_of(chosen[:, column], leaves, again=column + 1 < chosen.shape[1])
                for column in range(chosen.shape[1])
            ]
        return tuple(stack_targets(columns) for columns in zip(*found, strict=True))


def stack_targets(columns: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return tensors [rows, ...] of the targets as one [rows, targets, ...]; a lone one is not copied."""
    return columns[0].unsqueeze(1) if len(columns) == 1 else torch.stack(tuple(columns), dim=1)


def gradients_of(
    output: torch.Tensor,
    leaves: Sequence[torch.Tensor],
    weights: torch.Tensor | None = None,
    *,
    again: bool = False,
) -> list[torch.Tensor]:
    """Return the gradients of an output's sum, or of its numbers times `weights`, for each of `leaves`.

    A leaf that the output does not depend on has zeros. With `again` it can be asked once more.
    """
    # Not as `grad_outputs`: PyTorch imports sympy to compare the shapes, which takes a second or more.
    whole = output.sum() if weights is None else (output * weights.detach()).sum()
    found: Sequence[torch.Tensor | None] = torch.autograd.grad(
        whole, leaves, retain_graph=again, allow_unused=True
    )
    pairs = zip(found, leaves, strict=True)
    return [torch.zeros_like(leaf) if part is None else part for part, leaf in pairs]


def total(values: Tensors) -> torch.Tensor:
    """Return the sum of all attributions of each row and target, [rows, targets]."""
    return torch.stack([value.flatten(2).sum(dim=2) for value in values]).sum(dim=0)


def spread_over(per_row: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a tensor [rows] with axes added, so that it multiplies `like` [rows, ...] row by row."""
    return per_row.reshape(-1, *[1] * (like.dim() - 1))


def by_example(tensor: torch.Tensor, copies: int) -> torch.Tensor:
    """Return a tensor [rows x copies, ...] as [rows, copies, ...]."""
    return tensor.reshape(-1, copies, *tensor.shape[1:])
