"""`ImageSegmenter`: the class of every pixel."""

from __future__ import annotations

from typing import Any

import torch

from ts.handler_utils.image_transforms import imagenet_transform
from ts.torch_handler.vision_handler import VisionHandler


class ImageSegmenter(VisionHandler):
    """Answers nested lists [height][width][2]: the best class of a pixel and its probability.

    The model answers `{"out": logits}` of shape [batch, classes, height, width].
    """

    image_processing = imagenet_transform()

    def postprocess(self, data: Any) -> Any:
        """Keep the best class only: all of them would make an answer of tens of megabytes."""
        best = torch.nn.functional.softmax(data["out"], dim=1).max(dim=1)
        return torch.stack([best.indices.to(best.values.dtype), best.values], dim=3).tolist()
