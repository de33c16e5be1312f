"""`ObjectDetector`: the objects of an image and where they are."""

from __future__ import annotations

from typing import Any

import torch

from ts.handler_utils.image_transforms import Compose, ConvertRGB, ToTensor
from ts.torch_handler.vision_handler import VisionHandler
from ts.utils.util import map_class_to_label


class ObjectDetector(VisionHandler):
    """Answers a list of `{label: [x1, y1, x2, y2], "score": float}` per image, score `threshold` or more.

    The model is called as torchvision's detectors are, and answers dicts of `boxes`, `labels`, `scores`.
    """

    image_processing = Compose([ConvertRGB(), ToTensor()])
    threshold = 0.5

    def preprocess(self, data: Any) -> Any:
        """Return one tensor for images of one size, else a list of tensors, which detectors take as well."""
        images = [image.to(self.device) for image in self._images(data)]
        return torch.stack(images) if len({image.shape for image in images}) == 1 else images

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the model without gradients."""
        if isinstance(data, torch.Tensor):
            return super().inference(data, *args, **kwargs)
        with torch.inference_mode():
            return self.model(data, *args, **kwargs)

    def postprocess(self, data: Any) -> Any:
        """Drop what is below the threshold and name the classes."""
        return [self._objects(row) for row in data]

    def _objects(self, row: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
        keep = row["scores"] >= self.threshold
        boxes, labels, scores = (row[key][keep].tolist() for key in ("boxes", "labels", "scores"))
        return [
            {**map_class_to_label([[box]], self.mapping, [[label]])[0], "score": score}
            for box, label, score in zip(boxes, labels, scores, strict=False)
        ]
