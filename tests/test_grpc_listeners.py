from __future__ import annotations

import pytest

from predictor.configuration import resolve
from predictor.grpc_listeners import managed_over_grpc, plan
from predictor.settings import Settings, load_settings


def _planned(**settings):
    return {
        f"{port.host}:{port.port}": ("inference " * port.inference + "management" * port.management).strip()
        for port in plan(load_settings(settings))
    }


@pytest.mark.parametrize(
    ("settings", "planned"),
    [
        ({}, {"127.0.0.1:8081": "inference"}),
        ({"grpc_port": 0}, {}),
        ({"grpc_port": 0, "grpc_inference_port": 7}, {"127.0.0.1:7": "inference"}),
        (
            {"host": "0.0.0.0", "grpc_port": 9, "grpc_inference_port": -1, "grpc_management_port": -1},
            {"0.0.0.0:9": "inference", "127.0.0.1:7070": "inference", "127.0.0.1:7071": "management"},
        ),
        (
            {"grpc_port": 9, "grpc_management_port": 9},
            {"127.0.0.1:9": "inference management"},
        ),
        (
            {"grpc_port": 9, "grpc_inference_port": 9, "grpc_management_port": 9},
            {"127.0.0.1:9": "inference management"},
        ),
        (
            {"grpc_port": 9, "grpc_management_port": 9, "grpc_management_address": "10.0.0.1"},
            {"127.0.0.1:9": "inference", "10.0.0.1:9": "management"},
        ),
    ],
)
def test_which_services_are_where(settings, planned):
    assert _planned(**settings) == planned


def test_only_what_was_asked_for_must_be_had():
    asked = {port.port: port.asked for port in plan(load_settings({"grpc_inference_port": -1}))}
    assert asked == {8081: False, 7070: False}
    wanted = {"grpc_port": 8, "grpc_inference_port": 9, "grpc_management_port": 9}
    assert {port.port: port.asked for port in plan(load_settings(wanted))} == {8: True, 9: True}


def test_limits_of_connections():
    settings = load_settings(
        {
            "grpc_inference_port": 7,
            "grpc_management_port": 8,
            "grpc_inference_max_connection_age_ms": 1000,
            "grpc_management_max_connection_age_grace_ms": 50,
        }
    )
    limits = {port.port: dict(port.limits.options()) for port in plan(settings)}
    for port in (8081, 7):
        assert limits[port]["grpc.max_connection_age_ms"] == 1000
        assert "grpc.max_connection_age_grace_ms" not in limits[port]
    assert "grpc.max_connection_age_ms" not in limits[8]
    assert limits[8]["grpc.max_connection_age_grace_ms"] == 50


@pytest.mark.parametrize(
    ("lines", "inference", "management"),
    [
        ("", -1, 0),
        ("enable_model_api=true", -1, -1),
        ("grpc_inference_port=17070\ngrpc_management_port=17071", 17070, 17071),
    ],
)
def test_a_torchserve_configuration_opens_its_ports(tmp_path, lines, inference, management):
    file = tmp_path / "config.properties"
    file.write_text(lines + "\n")
    settings = resolve({}, file).settings
    assert (settings.grpc_inference_port, settings.grpc_management_port) == (inference, management)


def test_a_flag_closes_them_again(tmp_path):
    file = tmp_path / "config.properties"
    file.write_text("")
    assert resolve({"grpc_inference_port": 0}, file).settings.grpc_inference_port == 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"grpc_management_port": 7071}, ""),
        ({"host": "0.0.0.0"}, ""),
        ({"host": "0.0.0.0", "enable_model_api": True}, "grpc://0.0.0.0:8081"),
        ({"grpc_management_address": "0.0.0.0", "grpc_management_port": 7071}, "grpc://0.0.0.0:7071"),
        ({"grpc_management_address": "0.0.0.0"}, ""),
    ],
)
def test_from_where_models_may_be_changed(settings, expected):
    assert managed_over_grpc(Settings(**settings)) == expected
