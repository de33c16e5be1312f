"""`MockContext`: a context for testing a handler without a server."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import torch

from ts.metrics.metrics_store import MetricsStore
from ts.utils.util import get_yaml_config


class MockContext:
    """Has what `BaseHandler` and the built-in handlers ask of a context."""

    def __init__(
        self,
        model_pt_file: str | None = "model.pt",
        model_dir: str = "ts/torch_handler/unit_tests/models/tmp",
        model_file: str | None = "model.py",
        gpu_id: str = "0",
        model_name: str = "mnist",
        model_yaml_config_file: str | None = None,
    ) -> None:
        """Name the files of a model in `model_dir`; `gpu_id` counts only where CUDA is available."""
        files = {"serializedFile": model_pt_file, "modelFile": model_file}
        self.manifest: dict[str, Any] = {"model": {key: file for key, file in files.items() if file}}
        self.system_properties: dict[str, Any] = {"model_dir": model_dir}
        if torch.cuda.is_available() and gpu_id:
            self.system_properties["gpu_id"] = gpu_id
        self.explain = False
        self.metrics = MetricsStore(uuid.uuid4(), model_name)
        self.model_yaml_config: dict[str, Any] = {}
        if model_yaml_config_file:
            self.model_yaml_config = get_yaml_config(str(Path(model_dir, model_yaml_config_file)))

    def get_request_header(self, idx: Any, exp: Any) -> bool:
        """Say whether this is an explanation, for any header of any request but the first."""
        return bool(idx and exp and self.explain)
