"""The declaration of a model: its inputs and outputs by name, from `signature:` of model-config.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from predictor.handlers.formats import LoadedModel
from predictor.handlers.inputs import SignatureError, split_examples
from predictor.handlers.preprocessing import TOKENS, Preprocessing
from predictor.ipc.messages import TensorSpec
from predictor.oip.datatypes import DATATYPES

_KINDS = ("tensor", "image", "text")
_CLASSIFIER_OUTPUTS = (
    TensorSpec("label", "string", (), "text", "the most probable class"),
    TensorSpec("score", "float32", (), "tensor", "its probability"),
)
_SIGNATURE_KEYS = ("description", "inputs", "outputs", "pack_inputs", "classes", "preprocessing")


def parse_specs(section: Any, key: str) -> tuple[TensorSpec, ...]:
    """Read the list of inputs or outputs of a `signature:` section.

    Raises:
        SignatureError: an entry has the wrong form; the text names it.
    """
    if not isinstance(section, list):
        raise SignatureError(f"signature.{key} must be a list, got {type(section).__name__}")
    specs = []
    for position, entry in enumerate(section):
        try:
            spec = msgspec.convert(entry, TensorSpec)
        except msgspec.ValidationError as error:
            raise SignatureError(f"signature.{key}[{position}]: {error}") from error
        if spec.kind not in _KINDS:
            raise SignatureError(f"signature.{key}[{position}].kind must be one of {', '.join(_KINDS)}")
        # An output may be text without further ado; what comes in has to say how it is read.
        if spec.kind == "tensor" and not (key == "outputs" and spec.dtype == "string"):
            spec = _with_known_dtype(spec, f"signature.{key}[{position}].dtype")
        specs.append(spec)
    return tuple(specs)


class Signature:
    """What a model takes and gives, by name.

    Attributes:
        inputs: in the order of the model's arguments.
        outputs: as they are answered; () where nobody tells, and the model's answer names them.
        pack_inputs: scalar inputs are stacked, in order, into one tensor [batch, number of inputs].
        classes: labels of a classifier, () for other models.
        preprocessing: how pictures and texts become inputs.
        text: the name under which a text may be sent in place of its tokens, "" for none.
        plain_names: names of the inputs where all are float32 numbers for one tensor, () elsewhere.
    """

    def __init__(self, section: Any, told: LoadedModel | None = None) -> None:
        """Read the `signature:` section of a model's config.

        Args:
            section: what is declared; it wins over what the model's file tells.
            told: what that is, None if the file tells nothing.

        Raises:
            SignatureError: names the key that is wrong.
        """
        told_inputs, told_outputs = (told.inputs, told.outputs) if told else ((), ())
        if section is None and told_inputs:
            section = {}
        if not isinstance(section, Mapping):
            raise SignatureError("model-config.yaml has no 'signature' section")
        unknown = sorted(str(key) for key in section if key not in _SIGNATURE_KEYS)
        if unknown:
            known = ", ".join(_SIGNATURE_KEYS)
            raise SignatureError(f"signature has unknown keys: {', '.join(unknown)}; known are {known}")
        self.description = str(section.get("description", ""))
        declares_inputs = "inputs" in section or not told_inputs
        self.inputs = parse_specs(section.get("inputs"), "inputs") if declares_inputs else told_inputs
        if not self.inputs:
            raise SignatureError("signature.inputs is empty")
        self.pack_inputs = bool(section.get("pack_inputs", False))
        if self.pack_inputs and any(spec.shape for spec in self.inputs):
            raise SignatureError("signature.pack_inputs needs inputs of shape []")
        is_plain = self.pack_inputs and {spec.dtype for spec in self.inputs} == {"float32"}
        self.plain_names = tuple(spec.name for spec in self.inputs) if is_plain else ()
        self.preprocessing = Preprocessing(section.get("preprocessing"))
        self.text = self._text_for_tokens(told_inputs)
        self.preprocessing.check(self.inputs)
        self.classes = tuple(str(label) for label in section.get("classes", ()))
        outputs = parse_specs(section["outputs"], "outputs") if "outputs" in section else told_outputs
        if not outputs and not self.classes and not told_inputs:
            raise SignatureError("signature.outputs is empty")
        self.outputs = (*_CLASSIFIER_OUTPUTS, *outputs) if self.classes else outputs

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the numbers that an explanation may ask about: classes, or outputs of one number each."""
        if self.classes:
            return self.classes
        return self.output_names if all(_is_one_number(spec) for spec in self.outputs) else ()

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs, as they are declared."""
        return tuple(spec.name for spec in self.outputs)

    @property
    def full_description(self) -> str:
        """The model's description, with what its inputs do not show."""
        text = f"Takes a text as '{self.text}' in place of its tokens." if self.text else ""
        return " ".join(part for part in (self.description, text) if part)

    def split(self, document: Mapping[str, Any]) -> tuple[list[dict[str, Any]], bool]:
        """Cut named inputs into examples; the flag says whether the client sent just one.

        Raises:
            InvalidInput: names the input at fault.
        """
        if self.text and self.text in document:
            return split_examples((TensorSpec(self.text, "string", (), "text"),), document)
        return split_examples(self.inputs, document)

    def _text_for_tokens(self, told_inputs: tuple[TensorSpec, ...]) -> str:
        """Find the text that becomes tokens; where a declared text does, the inputs are the file's tokens."""
        if not self.preprocessing.tokenizer:
            return ""
        texts = [spec for spec in self.inputs if spec.kind == "text"]
        if len(texts) == len(self.inputs) == 1 and any(spec.name == TOKENS for spec in told_inputs):
            self.inputs = told_inputs
            return texts[0].name
        if any(spec.name == TOKENS for spec in self.inputs):
            return "text"
        if not texts:
            raise SignatureError(f"preprocessing.tokenizer: no input is a text, or called {TOKENS}")
        return ""


def _is_one_number(spec: TensorSpec) -> bool:
    is_number = spec.kind == "tensor" and spec.dtype != "string"
    return is_number and spec.ranked and spec.shape in ((), (1,))


def _with_known_dtype(spec: TensorSpec, where: str) -> TensorSpec:
    """Return `spec` with the plain name of its dtype: `float` becomes float64."""
    if spec.dtype == "bfloat16":
        return spec
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError as error:
        raise SignatureError(f"{where}: unknown dtype {spec.dtype!r}") from error
    if dtype.kind not in "iufb" or dtype.name not in DATATYPES:
        raise SignatureError(f"{where}: dtype {spec.dtype!r} is not numeric")
    return msgspec.structs.replace(spec, dtype=dtype.name)
