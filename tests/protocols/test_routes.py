from __future__ import annotations

import pytest
from protocol_fakes import registry

from predictor.protocols.routes import find_protocol


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/predictions/m", "TorchServeProtocol"),
        ("GET", "/predictions", "TorchServeProtocol"),
        ("POST", "/explanations/m", "TorchServeProtocol"),
        ("GET", "/ping", "TorchServeProtocol"),
        ("OPTIONS", "/", "TorchServeProtocol"),
        ("POST", "/", "TorchServeProtocol"),
        ("POST", "/m/predict", "TorchServeProtocol"),
        ("GET", "/foo", "TorchServeProtocol"),
        ("GET", "/v1", "TorchServeProtocol"),
        ("GET", "/v1/models", "V1Protocol"),
        ("GET", "/v1/models/", "V1Protocol"),
        ("POST", "/v1/models/m:predict", "V1Protocol"),
        ("GET", "/", "HealthProtocol"),
        ("HEAD", "/", "HealthProtocol"),
        ("GET", "/v2/health/ready", "HealthProtocol"),
        ("GET", "/v2/health/live/", "HealthProtocol"),
        ("POST", "/predict", "NamedProtocol"),
        ("POST", "/predict/m", "NamedProtocol"),
        ("GET", "/health", "NamedProtocol"),
        ("GET", "/info/m", "NamedProtocol"),
        ("GET", "/predictable", "TorchServeProtocol"),
    ],
)
def test_who_answers_what(method, path, expected):
    assert type(find_protocol(registry())(method, path)).__name__ == expected
