"""A classifier of short English texts by topic."""

from __future__ import annotations

import torch
from torch import nn

PADDING = 0
WIDTH = 16
TOPICS = 4
WORDS = 2502
"""Rows of the embedding: padding, the unknown word, and the 2,500 words of vocab.json."""


class TopicNet(nn.Module):
    """The mean of the words' embeddings, then one linear layer.

    Linear in the embeddings, so that what each word adds to a logit can be read off exactly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH, padding_idx=PADDING)
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(WIDTH, TOPICS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map word numbers, int64 [batch, length] padded with 0, to logits [batch, 4]."""
        return self.from_embeddings(self.embedding(ids), ids != PADDING)

    def from_embeddings(self, embedded: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Map embeddings [batch, length, 16] to logits; `present` [batch, length] is False for padding.

        A text without words has the mean 0, and so the logits of the bias.
        """
        weights = present.to(embedded.dtype).unsqueeze(2)
        mean = (embedded * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        logits: torch.Tensor = self.linear(self.dropout(mean))
        return logits
