from __future__ import annotations

from pathlib import Path

import pytest

from predictor.settings import ENV_PREFIX, Settings, SettingsError, load_settings, read_settings_file
from scripts import render_settings

_ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)


def test_defaults_are_safe():
    settings = load_settings({})
    assert settings.host == "127.0.0.1"
    assert settings.port == 8080
    assert settings.max_request_size == 6_553_500
    assert settings.limit_max_image_pixels
    assert not settings.install_py_dep_per_model


def test_precedence_is_flags_environment_file_defaults(monkeypatch):
    file = {"port": 1, "workers": 2, "batch_size": 3}
    monkeypatch.setenv("PREDICTOR_PORT", "11")
    monkeypatch.setenv("PREDICTOR_WORKERS", "12")
    settings = load_settings({"port": "21"}, file)
    assert (settings.port, settings.workers, settings.batch_size, settings.queue_size) == (21, 12, 3, 100)


def test_the_file_of_one_server_is_not_the_next_ones():
    assert load_settings({}, {"port": 1}).port == 1
    assert load_settings({}).port == 8080
    with pytest.raises(SettingsError):
        load_settings({}, {"port": "x"})
    assert load_settings({}).port == 8080


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("access_log", "no", False),
        ("access_log", "TRUE", True),
        ("max_batch_delay", "2.5", 2.5),
        ("model_store", "/x/y", Path("/x/y")),
        ("log_format", "json", "json"),
        ("models", "a,b", "a,b"),
    ],
)
def test_values_from_the_environment(monkeypatch, name, text, value):
    monkeypatch.setenv(ENV_PREFIX + name.upper(), text)
    assert getattr(load_settings({}), name) == value


def test_the_environments_names_may_be_lower_case(monkeypatch):
    monkeypatch.setenv("predictor_port", "7")
    assert load_settings({}).port == 7


def test_a_variable_of_another_program_with_our_prefix_is_no_error(monkeypatch):
    monkeypatch.setenv("PREDICTOR_SERVICE_HOST", "10.0.0.1")
    assert load_settings({}).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("flags", "variable", "file", "text"),
    [
        ({"port": "http"}, None, {}, "--port: Input should be a valid integer"),
        (
            {"max_batch_delay": "-1"},
            None,
            {},
            "--max-batch-delay: Input should be greater than or equal to 0",
        ),
        ({}, ("PREDICTOR_PORT", "99999"), {}, "PREDICTOR_PORT: Input should be less than or equal to 65535"),
        ({}, None, {"workers": "many"}, "settings.yaml: workers: Input should be a valid integer"),
        ({}, None, {"colour": "red"}, "settings.yaml: colour: "),
        ({"device": "tpu"}, None, {}, "--device: Input should be 'auto', 'cpu' or 'cuda'"),
        ({"response_timeout": "0"}, None, {}, "--response-timeout: Input should be greater than 0"),
    ],
)
def test_a_wrong_value_is_named_as_the_user_wrote_it(monkeypatch, flags, variable, file, text):
    if variable:
        monkeypatch.setenv(*variable)
    with pytest.raises(SettingsError) as raised:
        load_settings(flags, file, Path("settings.yaml"))
    assert str(raised.value).startswith(text)


def test_all_wrong_values_are_named_at_once():
    with pytest.raises(SettingsError) as raised:
        load_settings({"port": "x", "workers": "y"})
    assert [line.partition(":")[0] for line in str(raised.value).splitlines()] == ["--port", "--workers"]


def test_reading_a_file(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("port: 9\nmodels: a,b\n")
    assert read_settings_file(file) == {"port": 9, "models": "a,b"}
    file.write_text("# nothing\n")
    assert read_settings_file(file) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "expected settings by name, got list"),
        (b"text", "expected settings by name, got str"),
        (b"a: [", "cannot be read"),
        (b"\xff\xfe\xfa", "cannot be read"),
        (b"a: !!python/object:os.system {}", "cannot be read"),
        (b"5: x", "settings.yaml"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, message):
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        load_settings({}, read_settings_file(file), file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match=r"nowhere.yaml: cannot be read: .*No such file"):
        read_settings_file(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name):
    field = Settings.model_fields[name]
    assert field.description
    assert field.description.endswith(".")
    assert field.json_schema_extra["group"]


def test_the_page_of_settings_is_up_to_date():
    page = (_ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == render_settings.render(), "run: python scripts/render_settings.py"
