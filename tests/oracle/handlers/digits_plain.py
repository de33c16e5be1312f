"""The same without torchvision, and with the best classes and their names as the answer."""

import io

import numpy as np
import torch
from PIL import Image
from ts.torch_handler.image_classifier import ImageClassifier
from ts.torch_handler.vision_handler import VisionHandler


def to_tensor(image):
    values = np.asarray(image.convert("L").resize((8, 8), Image.BILINEAR), dtype=np.float32) / 255
    return torch.from_numpy(values).unsqueeze(0)


class PlainDigits(ImageClassifier):
    topk = 2
    image_processing = to_tensor

    def initialize(self, context):
        super().initialize(context)
        self.image_processing = to_tensor
        assert isinstance(self, VisionHandler)

    def preprocess(self, data):
        self.formats = [self.name_of(row.get("data") or row.get("body")) for row in data]
        return super().preprocess(data)

    def name_of(self, value):
        return (
            Image.open(io.BytesIO(value)).format
            if isinstance(value, (bytes, bytearray))
            else type(value).__name__
        )

    def postprocess(self, data):
        self.set_max_result_classes(3)
        best = super().postprocess(data)
        return [
            {"best": row, "k": self.get_max_result_classes(), "format": self.formats[i]}
            for i, row in enumerate(best)
        ]
