from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from predictor.settings import Settings
from predictor.torchserve.config import _CONVERTERS, load_torchserve_config
from predictor.torchserve.keys import GROUPS, KEYS, MODEL_KEYS, VARIABLES, Kind, Status
from scripts import render_keys

_ROOT = Path(__file__).parents[2]

CONTRACT = """
inference_address management_address metrics_address grpc_inference_address grpc_management_address
grpc_inference_port grpc_management_port grpc_inference_max_connection_age_ms
grpc_inference_max_connection_age_grace_ms grpc_management_max_connection_age_ms
grpc_management_max_connection_age_grace_ms enable_grpc_ssl load_models model_store workflow_store models
model_snapshot default_workers_per_model job_queue_size default_response_timeout default_startup_timeout
unregister_model_timeout max_request_size max_response_size service_envelope install_py_dep_per_model
disable_token_authorization token_expiration_min enable_model_api metrics_mode metrics_config
model_metrics_auto_detect enable_metrics_api disable_system_metrics metric_time_interval system_metrics_cmd
enable_envvars_config allowed_urls use_env_allowed_urls ts_open_inference_protocol cors_allowed_origin
cors_allowed_methods cors_allowed_headers keystore keystore_pass keystore_type private_key_file
certificate_file decode_input_request default_service_handler limit_max_image_pixels blacklist_env_vars
number_of_gpu number_of_netty_threads netty_client_threads prefer_direct_buffer use_native_io io_ratio
async_logging vmargs initial_worker_port initial_distribution_port ts_header_key_sequence_id
ts_header_key_sequence_start ts_header_key_sequence_end cpu_launcher_enable cpu_launcher_args ipex_enable
ipex_gpu_enable debug version cpp_log_config plugins_path tsConfigFile metrics_format
"""


def test_the_page_is_up_to_date_and_shows_every_key():
    page = (_ROOT / "docs" / "torchserve-config.md").read_text(encoding="utf-8")
    assert page == render_keys.render(), "run: python scripts/render_keys.py"
    for name in [*KEYS, *MODEL_KEYS, *VARIABLES]:
        assert name in page


@pytest.mark.parametrize("name", CONTRACT.split())
def test_every_key_of_the_contract_is_in_the_table(name):
    assert name in KEYS


def test_each_key_stands_there_once_and_says_something():
    assert sum(map(len, GROUPS.values())) == len(KEYS)
    assert len(VARIABLES) == sum(bool(key.variable) for key in KEYS.values())
    for key in KEYS.values():
        assert key.remark or key.status in (Status.MAPPED, Status.PLANNED), key.name
        if key.status is Status.NO_EFFECT:  # it follows on "because"
            assert not key.remark.endswith("."), key.name


def test_status_follows_the_settings_that_exist():
    assert KEYS["job_queue_size"].status is Status.MAPPED
    assert dataclasses.replace(KEYS["job_queue_size"], settings=("no_such_setting",)).status is Status.PLANNED
    assert KEYS["io_ratio"].status is Status.NO_EFFECT
    assert KEYS["models"].status is Status.READ


@pytest.mark.parametrize(
    "name", [name for name, key in KEYS.items() if key.settings and key.kind is not Kind.TEXT]
)
def test_torchserves_defaults_can_be_read(name, tmp_path):
    key = KEYS[name]
    if key.default.startswith(("none", "no limit", "all", "0:")):
        return
    (tmp_path / "f").write_text(f"{name}={key.default}")
    config = load_torchserve_config(tmp_path / "f", {})
    assert set(key.settings) == {*config.settings, *config.planned}


@pytest.mark.parametrize(
    "name", ["job_queue_size", "max_request_size", "max_response_size", "default_response_timeout"]
)
def test_our_defaults_are_torchserves(name):
    field = Settings.model_fields[KEYS[name].settings[0]]
    assert field.default == _CONVERTERS[KEYS[name].kind](KEYS[name].default)


def test_the_environments_names_are_torchserves():
    assert VARIABLES["TS_JOB_QUEUE_SIZE"] == "job_queue_size"
    assert VARIABLES["TS_TOKEN_EXPIRATION_TIME_MIN"] == "token_expiration_min"
    assert VARIABLES["TS_HEADER_KEY_SEQUENCE_ID"] == "ts_header_key_sequence_id"
    assert not {"models", "model_snapshot", "enable_envvars_config", "vmargs", "use_env_allowed_urls"} & set(
        VARIABLES.values()
    )
