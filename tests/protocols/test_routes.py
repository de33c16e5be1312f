from __future__ import annotations

import pytest
from protocol_fakes import call, registry

from predictor.protocols.routes import find_by_role, find_protocol


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


@pytest.mark.parametrize("path", ["/ping", "/predictions/m", "/foo"])
async def test_a_port_for_metrics_alone_has_nothing_else(path):
    protocol = find_by_role(registry(), {"metrics"})("GET", path)
    assert (await call(protocol, "GET", path)).status == 404


async def test_who_may_not_load_models_is_told_which_setting_allows_it():
    path = "/v2/repository/models/m/load"
    refused = await call(find_protocol(registry())("POST", path), "POST", path)
    assert refused.status == 403
    assert b"enable_model_api" in bytes(refused.body)
