"""Texts into the tokens that a model takes, with the tokenizer that lies in its folder.

Nothing is downloaded: a tokenizer is a `tokenizer.json`, as `save_pretrained` of the transformers library
and the hubs' repositories hold it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from predictor.errors import InvalidInput
from predictor.handlers.declaration import Signature
from predictor.handlers.inputs import SignatureError, as_text
from predictor.handlers.preprocessing import TOKENS
from predictor.handlers.tensors import Table, Tensor

FILE = "tokenizer.json"

# Inputs that are made of a text, by the names that exported models give them: what the library calls them.
_PARTS = {TOKENS: "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
_PADDING = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")


class Tokenizer:
    """Turns a text into the inputs of a model that are made of it."""

    def __init__(self, directory: Path, signature: Signature) -> None:
        """Load the tokenizer that a model's declaration names from the model's folder.

        Raises:
            SignatureError: it is not there, is none, or the library for it is missing.
        """
        self._tokenizer = _load(_file(directory, signature.preprocessing.tokenizer))
        self._text = signature.text
        self._names = [spec.name for spec in signature.inputs if spec.name in _PARTS]
        # Rows of one length where the model wants that, else as long as the longest text.
        told = [spec.shape[0] for spec in signature.inputs if spec.name == TOKENS and len(spec.shape) == 1]
        limit = signature.preprocessing.max_length
        self._length = told[0] if told and told[0] > 0 else 0
        limits = [value for value in (limit, self._length) if value]
        if limits:
            self._tokenizer.enable_truncation(min(limits))
        self._pad(self._length)

    def ids(self, text: str) -> torch.Tensor:
        """Return the numbers of a text's tokens, for a model whose only input is the text."""
        return torch.tensor(self._tokenizer.encode(text).ids, dtype=torch.int64)

    def row(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return one example's inputs: the tokens if it has the text, else the example as it is.

        Raises:
            InvalidInput: it has inputs beside the text, or no text under its name.
        """
        if not self._text or self._text not in values:
            return values
        self._check_alone(list(values))
        text = as_text(self._text, values[self._text])
        return {name: rows[0] for name, rows in self._encode([text]).items()}

    def table(self, table: Table) -> Table:
        """Return the inputs of a V2 request: the tokens of its texts, else the tensors as they are.

        Raises:
            InvalidInput: it has inputs beside the text, or another shape than [n] or [n, 1].
        """
        tensor = table.get(self._text)
        if tensor is None and len(table) == 1:
            # A lone input may have any name; tokens are never BYTES.
            tensor = next((only for only in table.values() if only.datatype == "BYTES"), None)
        if not self._text or tensor is None:
            return table
        self._check_alone(list(table))
        if tensor.datatype != "BYTES" or any(size != 1 for size in tensor.array.shape[1:]):
            raise InvalidInput(
                f"Input '{tensor.name}' is a text: BYTES of shape [n], got {tensor.datatype} "
                f"{list(tensor.array.shape)}"
            )
        texts = [as_text(tensor.name, value) for value in tensor.array.reshape(-1).tolist()]
        if not texts:
            raise InvalidInput(f"Input '{tensor.name}' is empty")
        rows = self._encode(texts)
        return Table((name, Tensor(name, "INT64", np.array(rows[name], np.int64))) for name in self._names)

    def _check_alone(self, names: Sequence[str]) -> None:
        if len(names) > 1:
            other = next(name for name in names if name != self._text)
            raise InvalidInput(f"Unknown input: '{other}'. Expected: {self._text}, and nothing else")

    def _encode(self, texts: Sequence[str]) -> dict[str, list[list[int]]]:
        encodings = self._tokenizer.encode_batch(list(texts))
        return {name: [getattr(item, _PARTS[name]) for item in encodings] for name in self._names}

    def _pad(self, length: int) -> None:
        """Fill rows up with the token that the tokenizer has for that."""
        told = self._tokenizer.padding or {}
        known = [token for token in _PADDING if self._tokenizer.token_to_id(token) is not None]
        token = told.get("pad_token") or (known[0] if known else "")
        number = self._tokenizer.token_to_id(token) if token else 0
        self._tokenizer.enable_padding(pad_id=number or 0, pad_token=token, length=length or None)


def _load(path: Path) -> Any:
    # A worker has its share of the cores already.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ImportError as error:
        raise SignatureError(
            "preprocessing.tokenizer needs the package tokenizers: pip install tokenizers"
        ) from error
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise SignatureError(f"{path.name} is not a tokenizer: {error}") from error


def _file(directory: Path, name: str) -> Path:
    """Find the tokenizer's file: the one that is named, or tokenizer.json for a name from a hub."""
    root = directory.resolve()
    for candidate in (root / name, root / name / FILE, root / FILE):
        path = candidate.resolve()
        if path.is_file() and path.is_relative_to(root):
            return path
    raise SignatureError(
        f"preprocessing.tokenizer is '{name}', and the model's folder has no {FILE}; put it there, because "
        "nothing is downloaded"
    )
