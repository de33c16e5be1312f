"""OpenAPI documents (stub being written)."""
from __future__ import annotations
from typing import Any
def inference_api() -> dict[str, Any]:
    return {}
def model_api(model: object) -> dict[str, Any]:
    return {}
