import torch
from torch import nn


class SegmentNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AvgPool2d(56)
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return {"out": self.conv(self.pool(x)), "aux": torch.zeros(1)}
