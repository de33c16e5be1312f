"""A small convolutional network that reads one handwritten digit."""

from __future__ import annotations

import torch
from torch import nn


class DigitNet(nn.Module):
    """Three convolutions and one linear layer, 42,000 parameters.

    Every activation is a module used once, and nothing works in place, so that DeepLIFT's hooks hold;
    ``conv3`` keeps a 7x7 grid for Grad-CAM. Pooling is by average because that is linear.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.AvgPool2d(2)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.relu3 = nn.ReLU()
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.3)
        self.linear = nn.Linear(48 * 7 * 7, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images, float32 [batch, 1, 28, 28] from 0 (paper) to 1 (ink), to logits [batch, 10]."""
        hidden = self.pool1(self.relu1(self.conv1(image)))
        hidden = self.pool2(self.relu2(self.conv2(hidden)))
        hidden = self.relu3(self.conv3(hidden))
        logits: torch.Tensor = self.linear(self.dropout(self.flatten(hidden)))
        return logits
