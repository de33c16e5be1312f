"""`TextClassifier`: the class of a text, by an embedding-bag model."""

from __future__ import annotations

from typing import Any

import torch

from ts.handler_utils.text_utils import ngrams_iterator
from ts.torch_handler.text_handler import TextHandler, softmax
from ts.utils.util import map_class_to_label


class TextClassifier(TextHandler):
    """Answers `{label: probability}` over all classes, for one text at a time: use batch size 1.

    The model takes token indices and offsets, as `torch.nn.EmbeddingBag` does.
    """

    ngrams = 2

    def preprocess(self, data: Any) -> Any:
        """Return the token indices of the first request's text, and its tokens.

        The text is stripped of tags, lower-cased, its contractions written out, accents and punctuation
        removed; the tokens and their n-grams are looked up in the vocabulary.
        """
        text = data[0].get("data") or data[0].get("body")
        if isinstance(text, (bytes, bytearray)):
            text = text.decode()
        text = self._expand_contractions(self._remove_html_tags(text).lower())
        text = self._remove_punctuation(self._remove_accented_characters(text))
        tokens = self._tokenize(text)
        indices = [self.source_vocab[token] for token in ngrams_iterator(tokens, self.ngrams)]
        return torch.as_tensor(indices, device=self.device), tokens

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the model with the indices and the offset of their only text."""
        indices, _ = data
        return super().inference(indices, torch.as_tensor([0], device=self.device))

    def postprocess(self, data: Any) -> Any:
        """Turn logits into `{label: probability}`."""
        return map_class_to_label(softmax(data).tolist(), self.mapping)

    def get_insights(self, text_preprocess: Any, _: Any, target: Any = 0) -> Any:
        """Return `[{"words": tokens, "importances": attributions per index and embedding value}]`."""
        indices, tokens = text_preprocess
        attributions = self.lig.attribute(
            indices,
            torch.zeros_like(indices),
            additional_forward_args=torch.tensor([0], device=self.device),
            return_convergence_delta=False,
            target=target,
        )
        importances = self.summarize_attributions(attributions).tolist()
        return [{"importances": importances, "words": self.get_word_token(tokens)}]
