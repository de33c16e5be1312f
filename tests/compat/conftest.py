"""The `ts` package on the path, as in a worker, and models to load with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

COMPAT = str(Path(__file__).parents[2] / "predictor" / "compat")
if COMPAT not in sys.path:
    sys.path.insert(0, COMPAT)


@pytest.fixture
def context(tmp_path):
    """Return a function that makes a context for the model files in `tmp_path`."""
    from ts.context import Context, RequestProcessor
    from ts.metrics.metrics_store import MetricsStore

    def make(headers=({},), config=None, **model):
        made = Context(
            "m", str(tmp_path), {"model": {"modelName": "m", "modelVersion": "1.0", **model}}, 1, None
        )
        made.metrics = MetricsStore(None, "m")
        made.model_yaml_config = config or {}
        made.request_processor = [RequestProcessor(dict(each)) for each in headers]
        made.request_ids = {index: f"id{index}" for index in range(len(headers))}
        return made

    return make


@pytest.fixture(autouse=True)
def _forget_model_files():
    """Let every test import its own model.py."""
    yield
    sys.modules.pop("model", None)
