"""`ImageClassifier`: the most probable classes of an image."""

from __future__ import annotations

from typing import Any

import torch

from ts.handler_utils.image_transforms import imagenet_transform
from ts.handler_utils.timer import timed
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import map_class_to_label


class ImageClassifier(VisionHandler):
    """Answers `{label: probability}` with the `topk` best classes, best first.

    The model answers logits of shape [batch, classes]; images are prepared as for ImageNet.
    """

    topk = 5
    image_processing = imagenet_transform()

    def set_max_result_classes(self, topk: int) -> None:
        """Set how many classes an answer has."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """Return how many classes an answer has at most."""
        return self.topk

    @timed
    def postprocess(self, data: Any) -> Any:
        """Turn logits into one `{label: probability}` per image; fewer than `topk` if there are no more."""
        probabilities = torch.nn.functional.softmax(data, dim=1)
        best, classes = torch.topk(probabilities, min(self.topk, probabilities.shape[1]), dim=1)
        return map_class_to_label(best.tolist(), self.mapping, classes.tolist())
