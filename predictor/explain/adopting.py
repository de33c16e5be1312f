"""How a handler that declares nothing is made to look like one that does, for one row of its input.

Two ways, the first that works:

* its `preprocess` makes a tensor and its `model` takes it: attributions are of that tensor;
* only its answers can be had: the input itself is taken apart (see `taking_apart.py`).
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from predictor.errors import InvalidInput, PredictorError
from predictor.explain.adopted import Adopted, AdoptedSignature
from predictor.explain.answers import AnswerReader
from predictor.explain.naming import Names, holds_name, is_name, names_in
from predictor.explain.outputs import first_output
from predictor.explain.scenes import Reader, scene_reader
from predictor.explain.shadow import ModelKind, kind_of
from predictor.explain.taking_apart import Pieces, payload_key, take_apart
from predictor.explain.variants import Variants
from predictor.handlers.fixed_rows import takes_any_rows
from predictor.ipc.messages import TensorSpec

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
Predict = Callable[[Sequence[Row]], Sequence[Any]]


class Adopting:
    """Finds for a row a function of tensors that answers like the handler."""

    def __init__(self, instance: Any, predict: Predict) -> None:
        """Prepare for a handler: its object, None for a function, and what answers rows as predictions."""
        self._instance = instance
        self._predict = predict

    @property
    def model(self) -> Any:
        """The handler's model, None where it has none of that name."""
        return getattr(self._instance, "model", None)

    def by_tensor(self, row: Row, name: str = "input", target: Any = None) -> Adopted | None:
        """Return the model behind the handler's own preprocessing, None where that is no single tensor.

        Nor where the model has no output of the name that is asked about, because only the answers have one.

        Args:
            row: with a tensor of V2 it may be several examples, if preprocessing makes as many of it.
            name: of what is explained.
            target: that the client asks about, as it wrote it.
        """
        if not callable(getattr(self._instance, "preprocess", None)) or self.model is None:
            return None
        try:
            prepared = self._instance.preprocess([dict(row)])
        except Exception as error:  # noqa: BLE001 - a handler's own code; what it answers tells more
            logger.info("preprocess does not take the row alone: %s", error)
            return None
        if not isinstance(prepared, torch.Tensor) or prepared.dim() < 2:
            return None
        if len(prepared) not in (1, _rows(row)) or not len(prepared):
            return None
        calls_handler = kind_of(self.model) is ModelKind.CALLABLE
        prepared = prepared.detach().clone()
        model = self._inferring if calls_handler else takes_any_rows(self.model)
        outputs, device = _outputs(model, prepared), _device_of(model)
        if outputs is None and device not in (None, prepared.device):
            # As many handlers bring it there, in `inference`.
            prepared = prepared.to(device)
            outputs = _outputs(model, prepared)
        names = None if outputs is None else self._names(outputs, target, row)
        if names is None:
            return None
        tensor = prepared[0]
        kind = "image" if tensor.dim() == 3 and len(tensor) in (1, 3) else "tensor"
        dtype = str(tensor.dtype).removeprefix("torch.")
        spec = TensorSpec(name, dtype, tuple(tensor.shape), kind)
        signature = AdoptedSignature((spec,), names.labels, names.are_classes)
        first, *others = ({name: tensor} for tensor in prepared)
        return Adopted(
            model, signature, prepared.device, first, has_state=calls_handler, others=tuple(others)
        )

    def _names(self, outputs: torch.Tensor, target: Any, row: Row) -> Names | None:
        """Return what the outputs [outputs] are called; None if the target is another number's name."""
        labels = _labels(getattr(self._instance, "mapping", None), len(outputs))
        if labels or not is_name(target):
            return Names(labels, are_classes=bool(labels))
        answer = self._predict([row])[0]
        return names_in(answer, outputs) or (None if holds_name(answer, target) else Names())

    def _inferring(self, tensor: torch.Tensor) -> torch.Tensor:
        """Call the handler's `inference`, which knows how to call a model that is no module.

        What it cannot answer together it is asked row by row: it may have been made for batches of one.
        """
        try:
            output = torch.as_tensor(first_output(self._instance.inference(tensor))).clone()
            if len(tensor) < 2 or (output.dim() and len(output) == len(tensor)):
                return output
        except Exception as error:
            if len(tensor) < 2:
                raise
            logger.info("inference does not take %d rows at once: %s", len(tensor), error)
        return torch.cat([self._inferring(tensor[row : row + 1]) for row in range(len(tensor))])

    def by_answers(self, row: Row, name: str = "") -> Adopted:
        """Return the handler as a function of the pieces of its input.

        Args:
            name: of what is explained; "" for what it is.

        Raises:
            InvalidInput: the input cannot be taken apart, or the handler's answer holds no numbers.
        """
        pieces = _pieces(row, f"Input '{name}'" if name else "The input")
        pieces = pieces.named(name) if name else pieces
        reader = _reader(self._predict([row])[0])
        predict = Variants(self._predict, pieces)
        is_classifier = reader.are_probabilities
        blank = _Blank(self._predict, reader)

        def model(*columns: torch.Tensor) -> torch.Tensor:
            parts = list(zip(*columns, strict=True))
            variants = [{**row, **pieces.write(part)} for part in parts]
            if pieces.sentence is None:
                return reader.scores(predict(variants, parts))
            empty = (columns[0] == 0).all(dim=1)
            scores = torch.empty((len(variants), len(reader.read(reader.example))))
            worded = [index for index in range(len(variants)) if not empty[index]]
            if worded:
                answers = predict([variants[index] for index in worded], [parts[index] for index in worded])
                scores[worded] = reader.scores(answers)
            for index in torch.nonzero(empty).flatten().tolist():
                scores[index] = blank.scores(variants[index])
            return scores

        signature = AdoptedSignature(pieces.specs, reader.labels, is_classifier, pieces.packed)
        return Adopted(
            model,
            signature,
            torch.device("cpu"),
            pieces.tensors,
            pieces.sentence,
            pieces.words,
            gives_probabilities=is_classifier,
            output_kind=reader.kind,
        )


def _reader(answer: Any) -> Reader:
    return scene_reader(answer) or AnswerReader(answer)


def _is_tensor(row: Row) -> bool:
    """Return whether a row is a tensor of V2 with a batch axis, no object of V1 with such keys."""
    shape, data = row.get("shape"), row.get("data")
    if row.get("datatype", "BYTES") == "BYTES" or not isinstance(shape, list) or not isinstance(data, list):
        return False
    return len(shape) > 1 and 0 < len(data) == shape[0] and isinstance(data[0], list)


def _rows(row: Row) -> int:
    """Return the length of the first axis of a tensor of V2, 1 for anything else."""
    return len(row["data"]) if _is_tensor(row) else 1


def _pieces(row: Row, what: str) -> Pieces:
    """Take the payload of a row apart; what is written is what changes in the row."""
    key = payload_key(row)
    if key is None:
        return take_apart(row, what)
    pieces = _without_batch(row, row[key], what)
    return dataclasses.replace(pieces, write=lambda variant: {key: pieces.write(variant)})


def _without_batch(row: Row, payload: Any, what: str) -> Pieces:
    """Take a payload apart; the batch axis of a tensor of V2 that holds one example is no part."""
    if not _is_tensor(row) or len(payload) != 1:
        return take_apart(payload, what)
    pieces = take_apart(payload[0], what)
    return dataclasses.replace(pieces, write=lambda variant: [pieces.write(variant)])


class _Blank:
    """What a handler answers to a text without words, which many cannot."""

    def __init__(self, predict: Predict, reader: Reader) -> None:
        self._predict = predict
        self._reader = reader
        self._failed = False

    def scores(self, row: Row) -> torch.Tensor:
        """Return the numbers of the answer; not a number, once, if the handler fails.

        Once, because the output at the baseline is always told, whether the method needs it or not.

        Raises:
            InvalidInput: the method needs it.
        """
        if self._failed:
            raise InvalidInput(
                "explain.method: the handler cannot answer a text without words, which this method asks it; "
                "feature_ablation takes only one word away at a time, of a text that has several"
            )
        try:
            return self._reader.scores(self._predict([row]))
        except Exception as error:  # noqa: BLE001 - a handler's own code
            logger.info("the handler fails for a text without words: %s", error)
            self._failed = True
            return torch.full((1, len(self._reader.read(self._reader.example))), torch.nan)


def _device_of(model: Any) -> torch.device | None:
    """Return where a model has its weights, None where it has none."""
    if not isinstance(model, torch.nn.Module):
        return None
    weights = itertools.chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in weights), None)


def _outputs(model: Any, prepared: torch.Tensor) -> torch.Tensor | None:
    """Return the numbers that the model answers for the first example, None if it answers others."""
    try:
        with torch.no_grad():
            output = model(prepared)
    except PredictorError:
        raise
    except Exception as error:  # noqa: BLE001 - the model may want to be called otherwise than we do
        logger.info("the model cannot be called with what preprocess returns: %s", error)
        return None
    output = output[0] if isinstance(output, (list, tuple)) and output else output
    if not isinstance(output, torch.Tensor) or output.dim() not in (1, 2) or len(output) != len(prepared):
        return None
    return output[0].reshape(-1) if output[0].numel() else None


def _labels(mapping: Any, count: int) -> tuple[str, ...]:
    """Return the labels of a classifier from TorchServe's index_to_name.json, () unless all are there."""
    if not isinstance(mapping, Mapping) or len(mapping) != count:
        return ()
    found = [mapping.get(str(index)) for index in range(count)]
    named = [value[-1] if isinstance(value, (list, tuple)) and value else value for value in found]
    labels = tuple(name for name in named if isinstance(name, str))
    return labels if len(labels) == count else ()
