"""The native handler: a model whose named inputs and outputs are declared in `model-config.yaml`.

Rows are checked one by one, so that a bad one is answered with its own error and the others are
computed together in one forward pass.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from predictor.archives.gpux import GPUX_FILE, read_gpux
from predictor.errors import InvalidInput, InvalidOutput, PredictorError
from predictor.explain.explainer import Explainer
from predictor.explain.text import Embedding, Word
from predictor.handlers.columns import arguments, check_rows, join_rows, rows_of, split_rows
from predictor.handlers.context import Context
from predictor.handlers.declaration import Signature
from predictor.handlers.formats import default_names, load_model
from predictor.handlers.inputs import (
    SignatureError,
    as_text,
    check_names,
    check_shape,
    from_base64,
    numbers,
)
from predictor.handlers.pictures import open_image
from predictor.handlers.scalars import stack_scalars
from predictor.handlers.stopwatch import Stage, enter
from predictor.handlers.tensors import Array, Table, from_torch, to_torch
from predictor.handlers.tokens import Tokenizer
from predictor.ipc.messages import ModelInfo, TensorSpec

logger = logging.getLogger(__name__)


class SignatureHandler:
    """Answers rows of named inputs with a PyTorch module.

    A model's folder may subclass it (one class in `handler.py`) and override `transform`; for a text
    model also `words` and `embedding`, with which its explanations speak of words.

    Attributes:
        model: the module, in evaluation mode, on `device`.
        signature: what it takes and gives.
        explainer: answers requests for explanations.
    """

    model: torch.nn.Module
    signature: Signature
    device: torch.device
    explainer: Explainer
    tokenizer: Tokenizer | None = None

    def initialize(self, context: Context) -> None:
        """Load the model that the manifest names.

        Raises:
            SignatureError: the declaration cannot be used.
            ModelFileError: the files cannot be.
        """
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        self.device = torch.device("cpu" if gpu is None else f"cuda:{gpu}")
        manifest = (context.manifest or {}).get("model", {})
        section = (context.model_yaml_config or {}).get("signature")
        if section is None and (Path(properties["model_dir"]) / GPUX_FILE).is_file():
            section = read_gpux(Path(properties["model_dir"])).signature
        if section is None and not manifest.get("serializedFile"):
            raise SignatureError("model-config.yaml has no 'signature' section")
        loaded = load_model(Path(properties["model_dir"]), manifest, self.device)
        self.model = loaded.module
        self.signature = Signature(section, loaded)
        wants_tokens = bool(self.signature.preprocessing.tokenizer)
        self.tokenizer = Tokenizer(Path(properties["model_dir"]), self.signature) if wants_tokens else None
        limits = (context.explain_timeout, context.explain_max_rows)
        self.explainer = Explainer(self, context.model_yaml_config or {}, *limits)

    def info(self) -> ModelInfo:
        """Say what the model takes and gives, for metadata routes."""
        signature = self.signature
        return ModelInfo(
            handler=type(self).__name__,
            description=signature.full_description,
            inputs=signature.inputs,
            outputs=signature.outputs,
            classes=signature.classes,
            explain=self.explainer.model.describe(),
        )

    def transform(self, name: str, value: Image.Image | str) -> torch.Tensor:
        """Turn one decoded picture or text into the tensor that input `name` declares.

        The default converts pictures to the declared channels and size and scales them to 0..1, and does
        what `preprocessing:` says; a model that takes text and names no tokenizer must override it.
        """
        spec = next(spec for spec in self.signature.inputs if spec.name == name)
        if isinstance(value, Image.Image):
            return self.signature.preprocessing.picture(spec, value)
        if self.tokenizer is None:
            raise SignatureError(f"input '{name}' is text: the model's handler.py must override transform()")
        return self.tokenizer.ids(value)

    def words(self, name: str, text: str) -> Sequence[Word]:
        """Return the word at each position of input `name`, and where it starts and ends in `text`.

        A model that takes text overrides it, so that explanations name words; the default knows none.
        """
        return ()

    def embedding(self, model: torch.nn.Module) -> Embedding | None:
        """Return the halves of `model` before and after its embeddings, None where it has none.

        Numbers of words have no gradients; their embeddings have. `model` is a copy of the handler's own
        that shares its weights: use the copy.
        """
        return None

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[Any]:
        """Answer one batch; a row that cannot be used is answered with its `PredictorError`."""
        accepts = _accepted(context, len(data))
        if accepts is not None:
            return self.explainer.explain(data, accepts)
        if data and isinstance(data[0], Table):
            return self._answer_tables(data, context)
        enter(context, Stage.DECODE)
        packed = self._packed(data)
        if packed is not None:
            enter(context, Stage.INFERENCE)
            outputs = self.predict([packed])
            enter(context, Stage.DECODE)
            return outputs
        answers: list[Any] = [None] * len(data)
        examples: list[dict[str, torch.Tensor]] = []
        positions: list[int] = []
        for position, row in enumerate(data):
            try:
                examples.append(self.example(row))
                positions.append(position)
            except PredictorError as error:
                answers[position] = error
        for members in _alike(examples):
            batch = self.collate([examples[member] for member in members])
            enter(context, Stage.INFERENCE)
            outputs = self.predict(batch)
            enter(context, Stage.DECODE)
            for member, answer in zip(members, outputs, strict=True):
                answers[positions[member]] = answer
        return answers

    def example(self, row: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Check one row and turn it into one tensor per input, without the batch axis.

        Raises:
            InvalidInput: names the input at fault.
        """
        values = self._named_values(row)
        if self.tokenizer is not None:
            values = self.tokenizer.row(values)
        check_names(self.signature.inputs, values)
        return {
            spec.name: self._tensor(spec, values[spec.name])
            for spec in self.signature.inputs
            if spec.name in values
        }

    def texts(self, row: Mapping[str, Any]) -> dict[str, str]:
        """Return the texts of one row, by input.

        Raises:
            InvalidInput: names the input at fault.
        """
        kinds = {spec.name for spec in self.signature.inputs if spec.kind == "text"}
        values = self._named_values(row) if kinds else {}
        return {name: as_text(name, value) for name, value in values.items() if name in kinds}

    def examples(self, table: Table) -> list[tuple[dict[str, torch.Tensor], dict[str, str]]]:
        """Cut the tensors of one request into examples, each with its texts, both by input.

        Raises:
            InvalidInput: names the tensor at fault.
        """
        texts: dict[str, list[str]] = {}

        def element(spec: TensorSpec, value: Any) -> Array:
            if spec.kind == "text":
                texts.setdefault(spec.name, []).append(as_text(spec.name, value))
            return self._element(spec, value)

        specs = self.signature.inputs
        columns = arguments(self.signature, self._tokenized(table), element)
        batch = self._to_device([join_rows([array]) for array in columns])
        packed = self.signature.pack_inputs
        tensors = list(batch[0].unbind(1)) if packed else batch
        return [
            (
                # Optional inputs at the end may be left out.
                {spec.name: tensor[row] for spec, tensor in zip(specs, tensors, strict=False)},
                {name: values[row] for name, values in texts.items()},
            )
            for row in range(len(batch[0]))
        ]

    def collate(self, examples: Sequence[Mapping[str, torch.Tensor]]) -> list[torch.Tensor]:
        """Stack examples into the model's arguments, each with a leading batch axis, on its device.

        All of them have the same inputs, of the same shapes. Optional inputs at the end that none of them
        has are left out.
        """
        present = [index for index, spec in enumerate(self.signature.inputs) if spec.name in examples[0]]
        inputs = self.signature.inputs[: present[-1] + 1]
        if self.signature.pack_inputs:
            rows = [torch.stack([example[spec.name].float() for spec in inputs]) for example in examples]
            return [torch.stack(rows).to(self.device)]
        return [
            torch.stack([example[spec.name] for example in examples]).to(self.device)
            if spec.name in examples[0]
            else cast(torch.Tensor, None)  # an optional input between others
            for spec in inputs
        ]

    def predict(self, batch: Sequence[torch.Tensor]) -> list[dict[str, Any]]:
        """Run the model on a batch and return one dict of named outputs for each example."""
        columns = self.outputs(batch)
        optional: Sequence[torch.Tensor | None] = batch
        check_rows(columns, len(next(tensor for tensor in optional if tensor is not None)))
        values = [column.tolist() for column in columns.values()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]

    def outputs(self, batch: Sequence[torch.Tensor]) -> dict[str, torch.Tensor | npt.NDArray[Any]]:
        """Run the model on a batch and return its outputs by name, each with a leading batch axis.

        Tensors are on the host; labels are an array of str.
        """
        with torch.inference_mode():
            output = self.model(*batch)
            return self._classes(output) if self.signature.classes else self._by_name(output)

    def _by_name(self, output: Any) -> dict[str, torch.Tensor | npt.NDArray[Any]]:
        """Return what the model answers under the declared names, or those that it gives itself."""
        names = [spec.name for spec in self.signature.outputs]
        if isinstance(output, Mapping):
            missing = [name for name in names if name not in output]
            if missing:
                raise InvalidOutput(f"the model's answer has no '{missing[0]}'")
            return {name: _on_host(output[name]) for name in names or output}
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        names = names or list(getattr(output, "_fields", default_names(len(outputs))))
        if len(names) != len(outputs):
            raise InvalidOutput(f"the model answers {len(outputs)} tensors, {len(names)} are declared")
        return {name: _on_host(value) for name, value in zip(names, outputs, strict=True)}

    def _classes(self, logits: torch.Tensor) -> dict[str, torch.Tensor | npt.NDArray[Any]]:
        """Turn logits [batch, classes] into label, score and probabilities."""
        if logits.shape[-1] != len(self.signature.classes):
            count = len(self.signature.classes)
            raise SignatureError(f"signature.classes names {count} classes, the model has {logits.shape[-1]}")
        probabilities = torch.softmax(logits.float(), dim=-1).cpu()
        scores, indices = probabilities.max(dim=-1)
        labels = np.array(self.signature.classes, dtype=object)[indices.numpy()]
        return {"label": labels, "score": scores, "probabilities": probabilities}

    def _packed(self, rows: Sequence[Mapping[str, Any]]) -> torch.Tensor | None:
        """Return the argument for rows of plain numbers, None where they have to be looked at one by one."""
        names = self.signature.plain_names
        if not names or not rows or type(self).example is not SignatureHandler.example:
            return None
        array = stack_scalars(names, rows)
        return None if array is None else torch.from_numpy(array).to(self.device)

    def _answer_tables(self, tables: Sequence[Any], context: Context) -> list[Any]:
        """Answer whole tables; those of the same shapes, but for the batch axis, are computed together."""
        enter(context, Stage.DECODE)
        answers: list[Any] = [None] * len(tables)
        groups: dict[Any, list[tuple[int, list[Array | None]]]] = {}
        for position, table in enumerate(tables):
            try:
                batch = arguments(self.signature, self._tokenized(table), self._element)
            except PredictorError as error:
                answers[position] = error
                continue
            key = tuple(None if array is None else (array.shape[1:], array.dtype) for array in batch)
            groups.setdefault(key, []).append((position, batch))
        for members in groups.values():
            joined = [join_rows(arrays) for arrays in zip(*(batch for _, batch in members), strict=True)]
            enter(context, Stage.INFERENCE)
            outputs = self.outputs(self._to_device(joined))
            enter(context, Stage.DECODE)
            sizes = [rows_of(batch) for _, batch in members]
            for (position, _), answer in zip(members, split_rows(outputs, sizes), strict=True):
                answers[position] = answer
        return answers

    def _tokenized(self, table: Table) -> Table:
        return table if self.tokenizer is None else self.tokenizer.table(table)

    def _to_device(self, batch: Sequence[Array | None]) -> list[torch.Tensor]:
        present = [index for index, array in enumerate(batch) if array is not None]
        packed = self.signature.pack_inputs
        dtypes = ["float32"] if packed else [spec.dtype for spec in self.signature.inputs]
        return [
            cast(torch.Tensor, None) if array is None else to_torch(array, dtype).to(self.device)
            for array, dtype in zip(batch[: present[-1] + 1], dtypes, strict=False)
        ]

    def _element(self, spec: TensorSpec, value: Any) -> Array:
        """Turn one picture or text of a tensor of BYTES into an array without the batch axis."""
        if spec.kind == "image" and isinstance(value, bytes) and value.isascii():
            # No picture in a common format is plain ASCII; TorchServe's clients send base64 here.
            value = value.decode("ascii")
        return from_torch(self._tensor(spec, value))[0]

    def _named_values(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Find the inputs in a row, whether they are its keys, or lie in its `data` or `body`."""
        inputs = self.signature.inputs
        text = self.signature.text
        if any(spec.name in row for spec in inputs) or (text and text in row):
            return row
        value = next((row[key] for key in ("data", "body") if key in row), None)
        if value is None:
            raise InvalidInput(f"Missing required input: '{inputs[0].name}'")
        if isinstance(value, Mapping):
            return value
        is_object = isinstance(value, (bytes, bytearray)) and value.lstrip().startswith(b"{")
        if text and isinstance(value, (bytes, bytearray, str)) and not is_object:
            return {text: value}
        if isinstance(value, (bytes, bytearray, str)) and inputs[0].kind == "tensor":
            value = _parse_json("The body", value)
            if isinstance(value, dict):
                return value
        if len(inputs) == 1:
            return {inputs[0].name: value}
        if isinstance(value, list) and len(value) == len(inputs):
            return {spec.name: item for spec, item in zip(inputs, value, strict=True)}
        names = ", ".join(spec.name for spec in inputs)
        raise InvalidInput(
            f"Expected an object with {names}, or a list of these {len(inputs)} values in this order"
        )

    def _tensor(self, spec: TensorSpec, value: Any) -> torch.Tensor:
        if spec.kind == "image" and isinstance(value, (bytes, bytearray, str)):
            data = from_base64(spec, value) if isinstance(value, str) else bytes(value)
            with open_image(spec.name, data) as picture:
                return self.transform(spec.name, picture)
        if spec.kind == "text":
            return self.transform(spec.name, as_text(spec.name, value))
        if isinstance(value, (bytes, bytearray)):
            value = _parse_json(f"Input '{spec.name}'", value)
        array = np.array(check_shape(spec, numbers(spec, value)))
        tensor = torch.from_numpy(array)
        return tensor.to(torch.bfloat16) if spec.dtype == "bfloat16" else tensor


def _alike(examples: Sequence[Mapping[str, torch.Tensor]]) -> list[list[int]]:
    """Return the positions of examples that can be stacked, group by group: the same inputs and shapes."""
    groups: dict[Any, list[int]] = {}
    for position, example in enumerate(examples):
        key = tuple((name, tensor.shape, tensor.dtype) for name, tensor in sorted(example.items()))
        groups.setdefault(key, []).append(position)
    return list(groups.values())


def _on_host(value: Any) -> Any:
    """Return an output on the host; what is no tensor, such as ONNX's texts, is there already."""
    return value.cpu() if isinstance(value, torch.Tensor) else value


def _accepted(context: Context | None, rows: int) -> list[str] | None:
    """Return each row's Accept header if the batch asks for explanations, None if it does not."""
    if context is None or not context.request_processor or not rows:
        return None
    headers = [context.get_all_request_header(row) for row in range(rows)]
    if headers[0].get("explain") != "True":
        return None
    return [next((str(some[key]) for key in some if key.lower() == "accept"), "") for some in headers]


def _parse_json(what: str, value: bytes | bytearray | str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is not JSON: {error}") from error
