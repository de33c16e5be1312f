import torch
from torch import nn


class DetectNet(nn.Module):
    """Answers as torchvision's detectors do; the boxes depend on the size of the image."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        found = []
        for image in images:
            height, width = image.shape[-2:]
            boxes = torch.tensor(
                [[0.0, 0.0, width / 2, height / 2], [1.0, 2.0, width, height], [0.0, 0.0, 1.0, 1.0]]
            )
            scores = torch.tensor([0.875, 0.5, 0.25])
            found.append({"boxes": boxes * self.scale, "labels": torch.tensor([1, 2, 1]), "scores": scores})
        return found
