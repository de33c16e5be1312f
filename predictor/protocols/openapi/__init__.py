"""OpenAPI 3.0.1 documents: what the server serves, and what one model takes and gives."""

from __future__ import annotations

from predictor.protocols.openapi.management import management_api, model_management_api
from predictor.protocols.openapi.models import model_api
from predictor.protocols.openapi.server import inference_api, metrics_api

__all__ = ["inference_api", "management_api", "metrics_api", "model_api", "model_management_api"]
