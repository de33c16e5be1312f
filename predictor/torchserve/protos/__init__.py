"""The messages of TorchServe's gRPC services, made by scripts/protos.py, for both sides."""

from __future__ import annotations

PREDICTIONS_TYPE = "application/grpc\nPredictionsRequest"
"""Content type of a message for a worker whose body is a PredictionsRequest.

The line break is there because no HTTP client can send one.
"""
