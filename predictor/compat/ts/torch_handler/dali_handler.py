"""`DALIHandler`: images decoded and prepared on the GPU by NVIDIA DALI. Needs nvidia-dali."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ts.context import Context
from ts.handler_utils.preprocess.dali import get_dali_pipeline
from ts.torch_handler.vision_handler import VisionHandler


class DALIHandler(VisionHandler):
    """Preprocesses with the pipeline the section `dali` of model-config.yaml names."""

    def initialize(self, context: Context) -> None:
        """Load the model and the pipeline."""
        super().initialize(context)
        self.pipeline = get_dali_pipeline(context)

    def preprocess(self, data: Any) -> Any:
        """Return the pipeline's output for the encoded images as one tensor on the device."""
        images = [row.get("data") or row.get("body") for row in data]
        arrays = [
            np.frombuffer(i, dtype=np.uint8) if isinstance(i, (bytes, bytearray)) else i for i in images
        ]
        output = self.pipeline.run(source=arrays)[0]
        return torch.stack([torch.tensor(output.at(index)) for index in range(len(output))]).to(self.device)
