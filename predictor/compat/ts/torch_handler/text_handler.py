"""`TextHandler`: cleaning text and looking up its tokens in a vocabulary."""

from __future__ import annotations

import functools
import string
import unicodedata
from abc import ABC
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ts.context import Context
from ts.handler_utils.model_files import load_checkpoint
from ts.handler_utils.text_utils import get_tokenizer
from ts.torch_handler.base_handler import BaseHandler
from ts.torch_handler.contractions import expand_contractions
from ts.utils.util import CLEANUP_REGEX

VOCABULARY_FILE = "source_vocab.pt"
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class TextHandler(BaseHandler, ABC):
    """Loads `source_vocab.pt` (token to index, read as weights are) beside the model."""

    def __init__(self) -> None:
        """Make an empty handler."""
        super().__init__()
        self.source_vocab: Any = None
        self.tokenizer = get_tokenizer("basic_english")
        self.input_text: Any = None
        self.initialized = None

    def initialize(self, context: Context) -> None:
        """Load the model and the vocabulary; Exception when the archive has none."""
        super().initialize(context)
        self.initialized = False
        # Manifests of the first TorchServe versions name the file.
        path = self.manifest["model"].get("sourceVocab") or self.get_source_vocab_path(context)
        self.source_vocab = load_checkpoint(path, None, self.model_yaml_config)
        self.initialized = True

    @functools.cached_property
    def lig(self) -> Any:
        """Captum's layer integrated gradients of `model.embedding`, made when first needed."""
        from captum.attr import LayerIntegratedGradients

        return LayerIntegratedGradients(self.model, self.model.embedding)

    def get_source_vocab_path(self, ctx: Context) -> str:
        """Return the path of the vocabulary in the model's folder."""
        path = str(Path(ctx.system_properties["model_dir"], VOCABULARY_FILE))
        if not Path(path).is_file():
            raise Exception(f"the archive has no {VOCABULARY_FILE}, which text handlers need")
        return path

    def get_word_token(self, input_tokens: Iterable[str]) -> list[str]:
        """Return the tokens without the mark byte pair encodings put for a space."""
        return [token.replace("Ġ", "") for token in input_tokens]

    def summarize_attributions(self, attributions: torch.Tensor) -> torch.Tensor:
        """Return softmax of the attributions over the norm of their sums; the shape stays."""
        attributions = softmax(attributions)
        length: torch.Tensor = torch.linalg.vector_norm(attributions.sum(dim=-1))
        return attributions / length

    def _expand_contractions(self, text: str) -> str:
        return expand_contractions(text)

    def _remove_accented_characters(self, text: str) -> str:
        return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()

    def _remove_html_tags(self, text: str) -> str:
        return CLEANUP_REGEX.sub("", text)

    def _remove_punctuation(self, text: str) -> str:
        return text.translate(NO_PUNCTUATION)

    # Old handlers call it by its first, misspelt name.
    _remove_puncutation = _remove_punctuation

    def _tokenize(self, text: str) -> list[str]:
        return self.tokenizer(text)


def softmax(values: torch.Tensor) -> torch.Tensor:
    """Return softmax over the dimension torch took when none was given: 0 of 0, 1 or 3 dimensions, else 1."""
    return torch.nn.functional.softmax(values, dim=0 if values.dim() in (0, 1, 3) else 1)
