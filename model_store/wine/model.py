"""A classifier of wines by thirteen chemical measurements."""

from __future__ import annotations

import torch
from torch import nn

FEATURES = 13
CLASSES = 3


class WineNet(nn.Module):
    """One hidden layer on standardised features.

    Mean and scale are buffers, so that requests carry measurements in their own units and explanations
    refer to them.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.hidden = nn.Linear(FEATURES, 16)
        self.relu = nn.ReLU()
        self.output = nn.Linear(16, CLASSES)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map measurements, float32 [batch, 13] in the signature's order and units, to logits [batch, 3]."""
        standardised = (features - self.mean) / self.scale
        logits: torch.Tensor = self.output(self.relu(self.hidden(standardised)))
        return logits
