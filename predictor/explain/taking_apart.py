"""Inputs of handlers that only answer: pictures, texts and numbers, taken apart and put together again.

What is switched off is a square of the picture, a word of the text, a number of the table. Each variant is
written down in the form in which the client sent the whole, and given to the handler.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from PIL import Image

from predictor.errors import InvalidInput
from predictor.explain.text import Word
from predictor.ipc.messages import TensorSpec

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Pieces:
    """An input in pieces.

    Attributes:
        specs: of the tensors.
        tensors: by input, without batch axis.
        write: from the tensors of one variant, in the order of `specs`, to the payload of its row.
        packed: the inputs are scalars, stacked into one tensor.
        sentence: the text, if it is one.
        words: its words.
    """

    specs: tuple[TensorSpec, ...]
    tensors: Mapping[str, torch.Tensor]
    write: Callable[[Sequence[torch.Tensor]], Any]
    packed: bool = False
    sentence: str | None = None
    words: tuple[Word, ...] = ()

    def named(self, name: str) -> Pieces:
        """Return the same under the name `name`, if it is a single input."""
        if len(self.specs) != 1:
            return self
        (spec,) = self.specs
        specs = (msgspec.structs.replace(spec, name=name),)
        return dataclasses.replace(self, specs=specs, tensors={name: self.tensors[spec.name]})


def payload_key(row: Row) -> str | None:
    """Return the key under which a row holds its payload, None where the row is the payload.

    A lone number is no payload, but one of several numbers, which may be called `data`.

    Raises:
        InvalidInput: there is none.
    """
    key = next((name for name in ("data", "body") if row.get(name) is not None), None)
    if key is not None and not (_is_number(row[key]) and _numbers(row)):
        return key
    if all(value is None for value in row.values()):
        raise InvalidInput("explain: the request has neither 'data' nor 'body' to take apart")
    return None


# Of a float32, which every number becomes.
_LARGEST = float(np.finfo(np.float32).max)


def take_apart(payload: Any, what: str = "The input") -> Pieces:
    """Cut a payload into pieces; `what` it is, for messages.

    Raises:
        InvalidInput: it is neither a picture, nor a text, nor numbers.
    """
    if isinstance(payload, (bytes, bytearray, memoryview)):
        data, kind = bytes(payload), bytes if isinstance(payload, bytes) else bytearray
        return _picture(data, kind) or _text_or_json(_decoded(data, what), what, kind)
    if isinstance(payload, str):
        return _picture(_from_base64(payload), _to_base64) or _text_or_json(payload, what)
    numbers = _numbers(payload)
    if numbers is None and isinstance(payload, Mapping):
        return _only(payload)
    if numbers is None:
        raise InvalidInput(f"{what} is neither a picture, nor a text, nor numbers of a float32")
    return numbers


def _only(payload: Mapping[str, Any]) -> Pieces:
    """Cut up the only value of an object."""
    odd = [repr(name) for name, value in payload.items() if not _is_number(value)]
    if len(payload) != 1 or isinstance(payload[next(iter(payload))], (Mapping, bool)):
        raise InvalidInput(
            "explain: the input must be numbers by name, or a single picture, text or list of numbers; "
            f"{', '.join(odd) or 'an empty object'} is no number"
        )
    ((name, value),) = payload.items()
    pieces = take_apart(value, f"Input '{_sendable(name, 'The name of an input')}'")
    write = pieces.write
    return dataclasses.replace(pieces.named(name), write=lambda variant: {name: write(variant)})


def _picture(data: bytes, write: Callable[[bytes], Any]) -> Pieces | None:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("L" if opened.mode in ("1", "L", "I;16", "I", "F") else "RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    pixels = np.asarray(picture, dtype=np.float32).reshape(picture.height, picture.width, -1) / 255
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def encode(variant: Sequence[torch.Tensor]) -> Any:
        shown = (variant[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(shown.squeeze(2) if shown.shape[2] == 1 else shown).save(
            buffer, "PNG", compress_level=1
        )
        return write(buffer.getvalue())

    spec = TensorSpec("image", shape=tuple(tensor.shape), kind="image")
    return Pieces((spec,), {"image": tensor}, encode)


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{what} is neither a picture, nor a text, nor numbers") from error


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _to_base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")


def _text_or_json(text: str, what: str, kind: type[bytes | bytearray] | None = None) -> Pieces:
    def wrap(value: str) -> str | bytes | bytearray:
        return value if kind is None else kind(value.encode("utf-8"))

    text = _sendable(text, what)
    if text.lstrip()[:1] in ("{", "["):
        try:
            numbers = _numbers(json.loads(text))
        except (ValueError, RecursionError):
            numbers = None
        if numbers is not None:
            write = numbers.write
            return dataclasses.replace(numbers, write=lambda variant: wrap(json.dumps(write(variant))))
    words = tuple((match.group(), match.start(), match.end()) for match in re.finditer(r"\S+", text))
    if not words:
        raise InvalidInput(f"{what} holds no word, so there is nothing to explain")

    def keep(variant: Sequence[torch.Tensor]) -> Any:
        kept = [word for (word, _, _), present in zip(words, variant[0].tolist(), strict=True) if present]
        # With all of them it is the client's text, to the letter; with none a blank, which many handlers
        # take for a text where they take nothing for no request.
        return wrap(text if len(kept) == len(words) else " ".join(kept) or " ")

    spec = TensorSpec("text", shape=(len(words),), kind="text")
    return Pieces((spec,), {"text": torch.ones(len(words))}, keep, sentence=text, words=words)


def _numbers(value: Any) -> Pieces | None:
    """Return an object of numbers by name, or nested lists of them, in pieces; None for anything else.

    What a variant leaves as it was is written as it came, not as the float32 that it is here.
    """
    if isinstance(value, Mapping):
        if not value or not all(_is_number(item) for item in value.values()):
            return None
        names = [_sendable(str(name), "The name of an input") for name in value]
        specs = tuple(TensorSpec(name) for name in names)
        tensors = {name: torch.tensor(float(item)) for name, item in zip(names, value.values(), strict=True)}
        known = [float(tensor) for tensor in tensors.values()]

        def write(variant: Sequence[torch.Tensor]) -> Any:
            items = zip(value.items(), variant[0].tolist(), known, strict=True)
            return {name: given if item == was else _like(given, item) for (name, given), item, was in items}

        return Pieces(specs, tensors, write, packed=True)
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    if array.dtype.kind not in "iuf" or not array.ndim or not array.size:
        return None
    if (np.isfinite(array) & (abs(array) > _LARGEST)).any():
        return None
    is_whole = array.dtype.kind in "iu"
    tensor = torch.from_numpy(array.astype(np.float32))
    spec = TensorSpec("input", shape=tuple(tensor.shape))

    def as_lists(variant: Sequence[torch.Tensor]) -> Any:
        changed = (variant[0].long() if is_whole else variant[0]).numpy().astype(array.dtype)
        return np.where((variant[0] == tensor).numpy(), array, changed).tolist()

    return Pieces((spec,), {"input": tensor}, as_lists)


def _sendable(text: str, what: str) -> str:
    """Return a text that can stand in an answer; in JSON there may be half a character of UTF-16."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} holds half of a surrogate pair, which is no character") from error
    return text


def _like(given: float, item: float) -> float:
    """Return a number as whole as the one that it stands for."""
    return int(item) if isinstance(given, int) and item == int(item) else item


def _is_number(value: Any) -> bool:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return good and bool(abs(value) <= _LARGEST)
