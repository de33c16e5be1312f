"""`VisionHandler`: images in, a batch of tensors for the model."""

from __future__ import annotations

import base64
import functools
import io
from abc import ABC
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from ts.context import Context
from ts.handler_utils.timer import timed
from ts.torch_handler.base_handler import BaseHandler


class VisionHandler(BaseHandler, ABC):
    """A subclass says in `image_processing` how a Pillow image becomes a tensor.

    A request brings an image as bytes, as base64 text (also as `{"b64": text}`), or as nested lists of
    numbers, which are taken as the tensor itself.
    """

    image_processing: Callable[..., Any]

    def initialize(self, context: Context) -> None:
        """Load the model; lift Pillow's limit on image sizes if the server is told so."""
        super().initialize(context)
        if not context.system_properties.get("limit_max_image_pixels"):
            Image.MAX_IMAGE_PIXELS = None

    @functools.cached_property
    def ig(self) -> Any:
        """Captum's integrated gradients of the model, made when first needed."""
        from captum.attr import IntegratedGradients

        return IntegratedGradients(self.model)

    @timed
    def preprocess(self, data: Any) -> Any:
        """Return the images as one tensor, stacked along a new first dimension, on the device."""
        return torch.stack(self._images(data)).to(self.device)

    def get_insights(self, tensor_data: Any, _: Any, target: Any = 0) -> Any:
        """Return integrated gradients, nested lists in the shape of `tensor_data`."""
        return self.ig.attribute(tensor_data, target=target, n_steps=15).tolist()

    def _images(self, data: Any) -> list[torch.Tensor]:
        return [self._image(row.get("data") or row.get("body")) for row in data]

    def _image(self, value: Any) -> torch.Tensor:
        if isinstance(value, dict) and isinstance(value.get("b64"), str):
            value = value["b64"]
        if isinstance(value, str):
            value = base64.b64decode(value)
        if not isinstance(value, (bytes, bytearray)):
            return torch.FloatTensor(value)
        tensor: torch.Tensor = self.image_processing(Image.open(io.BytesIO(value)))
        return tensor
