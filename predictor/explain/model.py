"""A signature model as explanations see it: what it allows, and its batches as `Examples`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from predictor.errors import InvalidInput
from predictor.explain import groups
from predictor.explain.baselines import make_baseline
from predictor.explain.calling import Order
from predictor.explain.config import ExplainConfig, ExplainConfigError
from predictor.explain.examples import Examples, Subject, Tensors
from predictor.explain.graphs import graphs_of
from predictor.explain.layers import convolutions
from predictor.explain.layout import ChannelsLast
from predictor.explain.methods import MAX_SHAPLEY_PLAYERS, METHODS, Args, Method, Need
from predictor.explain.outputs import OutputReader
from predictor.explain.perturbation import places_of
from predictor.explain.precision import autocast_dtype, full_precision
from predictor.explain.shadow import ModelKind, is_recurrent, kind_of, shadow_copy, unwrap
from predictor.explain.shortcut import Shortcut
from predictor.explain.text import Word
from predictor.ipc.messages import TensorSpec

if TYPE_CHECKING:
    from predictor.handlers.signature import SignatureHandler

logger = logging.getLogger(__name__)

_FLOATS = ("float16", "bfloat16", "float32", "float64")
# A text of unknown length, for the costs that are listed beforehand.
_TYPICAL_WORDS = 20


class ExplainedModel:
    """The handler's model, and everything about it that explanations need to know.

    Attributes:
        module: a shadow copy that hooks may be set on, None unless the model is eager.
        kind: what the model is.
        is_recurrent: it has recurrent layers.
        gives_probabilities: its outputs are probabilities already.
        slots: positions, among the signature's inputs, of those that get attributions when a method
            follows gradients; an index of 0 for packed features.
    """

    def __init__(self, handler: SignatureHandler, config: ExplainConfig) -> None:
        """Look at the model of `handler`, which is left alone.

        Raises:
            ExplainConfigError: the model's baseline or background does not fit its inputs.
        """
        self.handler = handler
        self.config = config
        self.signature = handler.signature
        self.kind = kind_of(handler.model)
        self.module = _shadow(unwrap(handler.model)) if self.kind is ModelKind.EAGER else None
        self.model: Any = self.module if self.module is not None else handler.model
        self.is_recurrent = is_recurrent(self.model)
        self.embedding = handler.embedding(self.model)
        self._read = OutputReader(self.signature.output_names, self._has_named_outputs)
        self._call = self._laid_out()
        self._shortcut = None if self.embedding else Shortcut(self.model, self.kind, self._call, self._read)
        self._graphs = graphs_of(self.model, self.kind, handler.device) if config.cuda_graphs else None
        self.gives_probabilities = bool(getattr(handler, "gives_probabilities", False))
        self.slots = self._slots()
        self.background = self._background()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs, () where they have none; the last answer decides whether they fit."""
        return self._read.labels if self._has_named_outputs else self.signature.labels

    @property
    def _has_named_outputs(self) -> bool:
        """Whether names of numbers are declared that are no classes."""
        return bool(self.signature.output_names and self.signature.labels) and not self.is_classifier

    @property
    def is_classifier(self) -> bool:
        """Whether the outputs are, or become, probabilities of classes."""
        return bool(self.signature.classes)

    @property
    def is_packed(self) -> bool:
        """Whether the inputs are columns of one tensor."""
        return self.signature.pack_inputs

    def _slots(self) -> tuple[int, ...]:
        if self.is_packed:
            return (0,)
        specs = self.signature.inputs
        if self.embedding is not None:
            return (next((i for i, spec in enumerate(specs) if spec.kind == "text"), 0),)
        return tuple(index for index, spec in enumerate(specs) if spec.dtype in _FLOATS)

    def _laid_out(self) -> Any:
        has_convolutions = self.module is not None and bool(convolutions(self.module))
        return ChannelsLast(self.model, self._read) if has_convolutions else self.model

    def refusal(self, method: Method) -> str | None:
        """Return why a method cannot be used on this model, None if it can."""
        lacking = next((need for need in method.needs if not self._has(need)), None)
        if lacking is None:
            return None
        return (
            f"explain.method '{method.name}' cannot be used on this model, which is {self.kind.value}: it "
            f"needs {lacking.value}. Valid methods: {', '.join(m.name for m in self.valid_methods())}"
        )

    def valid_methods(self) -> list[Method]:
        """Return the methods that this model allows."""
        return [method for method in METHODS.values() if all(self._has(need) for need in method.needs)]

    def _has(self, need: Need) -> bool:
        if need is Need.GRADIENTS:
            return self.kind is not ModelKind.CALLABLE and bool(self.slots)
        if need is Need.EAGER:
            return self.module is not None
        if need is Need.CONVOLUTION:
            return self.module is not None and bool(convolutions(self.module))
        if need is Need.IMAGE:
            return any(len(spec.shape) == 3 and spec.dtype in _FLOATS for spec in self.signature.inputs)
        # Words and squares of a picture are counted when they are known.
        plain = [spec for spec in self.signature.inputs if spec.kind == "tensor"]
        return len(plain) < len(self.signature.inputs) or self.players({}) <= MAX_SHAPLEY_PLAYERS

    def default_method(self) -> str:
        """Return the method for requests that name none."""
        if self.config.method:
            return self.config.method
        valid = [method.name for method in self.valid_methods()]
        wanted = ("integrated_gradients", "shapley_exact", "feature_ablation")
        return next(name for name in wanted if name in valid)

    def players(self, args: Args) -> int:
        """Return about how many features an example has that methods can switch off."""
        if self.is_packed:
            return len(self.signature.inputs)
        count = 0
        for spec in self.signature.inputs:
            shape = torch.Size(_TYPICAL_WORDS if size < 0 else size for size in spec.shape)
            if spec.kind == "text":
                count += _TYPICAL_WORDS
            else:
                features = _feature_map(spec, shape, args)
                count += int(features.max()) + 1 if features.numel() else 0
        return count

    def rows(self, method: Method, args: Args, example: Sequence[torch.Tensor | None], players: int) -> int:
        """Return how many rows one explanation sends through the model at most."""
        if method.name != "occlusion":
            return method.rows(args, players)
        picture = next(tensor for tensor in example if tensor is not None and tensor.dim() == 4)
        return len(places_of(picture.shape[2], picture.shape[3], args)[0])

    def describe(self) -> dict[str, Any]:
        """Return what `GET .../explain` tells of the model."""
        methods = [method.describe(self.players(method.arguments({}))) for method in self.valid_methods()]
        # Of a lone output there is nothing to choose, and only an answer will tell whether it is one number.
        labels = self.labels if self.is_classifier or len(self.labels) > 1 else ()
        return {"default_method": self.default_method(), "labels": list(labels), "methods": methods}

    def examples(
        self,
        arguments: Sequence[torch.Tensor | None],
        baselines: Sequence[Any],
        words: Sequence[Mapping[str, Sequence[Word]]],
        method: Method,
        args: Args,
    ) -> tuple[Examples, tuple[int, ...], Subject]:
        """Return a batch as methods take it, the signature's inputs that it explains, and the function.

        Args:
            arguments: of the model, each with a batch axis; None for an optional one that is left out.
            baselines: for each example, what its request says.
            words: for each example, the words of its texts by input.

        Raises:
            InvalidInput: a baseline does not fit, or the device does not compute in the precision asked for.
        """
        # A scalar input has no axis that features could lie along, so it gets one.
        columns = {
            index: tensor.unsqueeze(1) if tensor.dim() == 1 else tensor
            for index, tensor in enumerate(arguments)
            if tensor is not None
        }
        wanted = self.slots if Need.GRADIENTS in method.needs or self.embedding else self._all_slots()
        slots = tuple(slot for slot in wanted if slot in columns)
        if not slots:
            raise InvalidInput(
                f"explain.method '{method.name}' can explain none of the inputs that were sent"
            )
        inputs, extras, subject = self._arrange(columns, slots, method)
        for slot, tensor in zip(slots, inputs, strict=True):
            if not tensor.numel():
                raise InvalidInput(f"Input '{self.signature.inputs[slot].name}' holds nothing to explain")
        per_row = [
            make_baseline(
                given,
                self.config.baseline,
                self._specs(slots),
                self.is_packed,
                [t[i : i + 1] for t in inputs],
            )
            for i, given in enumerate(baselines)
        ]
        starts = tuple(torch.cat(parts) for parts in zip(*per_row, strict=True))
        features = self._features(columns, inputs, slots, words, args)
        examples = Examples(
            inputs=inputs,
            baselines=starts,
            extras=extras,
            groups=features,
            targets=torch.zeros((len(inputs[0]), 1), dtype=torch.int64, device=inputs[0].device),
            owners=torch.arange(len(inputs[0])),
            seeds=(0,) * len(inputs[0]),
            background=self.background,
        )
        autocast = autocast_dtype(args, examples.device)
        graphs = self._graphs.renewed() if self._graphs and Need.GRADIENTS in method.needs else None
        subject = dataclasses.replace(subject, autocast=autocast, read=self._read, graphs=graphs)
        return examples, slots, subject

    def _all_slots(self) -> tuple[int, ...]:
        return (0,) if self.is_packed else tuple(range(len(self.signature.inputs)))

    def _specs(self, slots: Sequence[int]) -> Sequence[TensorSpec]:
        return self.signature.inputs if self.is_packed else [self.signature.inputs[index] for index in slots]

    def _arrange(
        self, columns: Mapping[int, torch.Tensor], slots: Sequence[int], method: Method
    ) -> tuple[Tensors, Tensors, Subject]:
        """Return inputs, extras, and a function of both that calls the model as it wants to be called."""
        if self.embedding is not None:
            with torch.no_grad():
                embedded, extras = self.embedding.look_up(list(columns.values()))
            return (embedded,), tuple(extras), Subject(self.embedding.forward, self.kind, self.module)
        order = (*slots, *(index for index in columns if index not in slots))
        tensors = [columns[index] for index in order]
        follows = Need.GRADIENTS in method.needs and Need.EAGER not in method.needs
        subject = self._subject(order, tensors, len(slots) if follows else 0)
        return tuple(tensors[: len(slots)]), tuple(tensors[len(slots) :]), subject

    def _subject(self, order: tuple[int, ...], tensors: Sequence[torch.Tensor], followed: int) -> Subject:
        """Return the function of arguments in this order, of which the first `followed` need gradients."""
        specs = () if self.is_packed else self.signature.inputs
        places = Order(order, frozenset(index for index, spec in enumerate(specs) if not spec.shape))
        route = None
        if followed and self._shortcut is not None:
            with full_precision():
                route = self._shortcut.route(*places.arguments(tensors))
        if route is not None and route.position not in order[:followed]:
            route = dataclasses.replace(route, tail=route, head=None)
        return places.subject(self._call, route, self.kind, self.module)

    def _features(
        self,
        columns: Mapping[int, torch.Tensor],
        inputs: Tensors,
        slots: Sequence[int],
        words: Sequence[Mapping[str, Sequence[Word]]],
        args: Args,
    ) -> Tensors:
        """Return which feature each number belongs to, in the shapes of the inputs."""
        rows = []
        for row in range(len(inputs[0])):
            maps = []
            for slot, tensor in zip(slots, inputs, strict=True):
                spec = (
                    TensorSpec("features", shape=(tensor.shape[1],))
                    if self.is_packed
                    else self.signature.inputs[slot]
                )
                if spec.kind == "text" or self.embedding is not None:
                    known = words[row].get(spec.name)
                    present = _present(columns[slot][row], known)
                    maps.append(groups.by_position(tensor.shape[1:], present))
                else:
                    maps.append(_feature_map(spec, tensor.shape[1:], args))
            rows.append(groups.join(maps))
        return tuple(torch.stack(maps).to(inputs[0].device) for maps in zip(*rows, strict=True))

    def _background(self) -> Tensors:
        given = self.config.background
        if given is None or self.embedding is not None:
            return ()
        if len(self.slots) != 1 or not isinstance(given, list) or not given:
            raise ExplainConfigError("explain.background must be a list of rows, for a model with one input")
        try:
            rows = torch.tensor(given, dtype=torch.float32, device=self.handler.device)
        except (ValueError, TypeError) as error:
            raise ExplainConfigError(f"explain.background must hold rows of numbers: {error}") from error
        specs = self.signature.inputs
        shape = (len(specs),) if self.is_packed else specs[self.slots[0]].shape
        if tuple(rows.shape[1:]) != shape:
            raise ExplainConfigError(f"explain.background: rows must have the shape {list(shape)}")
        return (rows,)


def check_players(method: Method, players: int) -> None:
    """Check that an example has few enough features for a method that tries all coalitions.

    Raises:
        InvalidInput: it has too many.
    """
    if Need.FEW_PLAYERS in method.needs and players > MAX_SHAPLEY_PLAYERS:
        raise InvalidInput(
            f"explain.method '{method.name}' takes {Need.FEW_PLAYERS.value}; this example has {players}. "
            "kernel_shap takes any number"
        )


def _feature_map(spec: TensorSpec, shape: torch.Size, args: Args) -> torch.Tensor:
    if len(shape) == 3 and spec.kind == "image":
        return groups.by_square(shape, int(args.get("grid", 7)))
    return groups.by_number(shape if len(shape) else torch.Size([1]))


def _present(numbers: torch.Tensor, words: Sequence[Word] | None) -> torch.Tensor:
    """Return which positions of a text hold a word; where the words are not known, those that are not 0."""
    if words:
        return (torch.arange(len(numbers)) < len(words)).cpu()
    return (numbers.reshape(len(numbers), -1) != 0).any(dim=1).cpu()


def _shadow(model: torch.nn.Module) -> torch.nn.Module | None:
    try:
        return shadow_copy(model)
    except Exception as error:  # noqa: BLE001 - copying runs the model's own code
        logger.warning("the model cannot be copied, so methods that set hooks are not offered: %s", error)
        return None
