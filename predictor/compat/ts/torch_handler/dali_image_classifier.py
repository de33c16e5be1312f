"""`DALIImageClassifier`: `ImageClassifier` with NVIDIA DALI preparing the images. Needs nvidia-dali."""

from __future__ import annotations

from ts.torch_handler.dali_handler import DALIHandler
from ts.torch_handler.image_classifier import ImageClassifier


class DALIImageClassifier(DALIHandler, ImageClassifier):
    """Answers `{label: probability}` with the `topk` best classes."""
