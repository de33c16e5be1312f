from __future__ import annotations

import sys
import types

import pytest

from predictor import __version__, cli
from predictor.settings import ENV_PREFIX, Settings


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Takes the server's place: notes what it is asked to serve. The environment says nothing."""
    import os

    for name in list(os.environ):
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    calls = []
    module = types.ModuleType("predictor.server")
    module.serve = lambda configuration, unknown: calls.append((configuration.settings, unknown)) or 0
    monkeypatch.setitem(sys.modules, "predictor.server", module)
    monkeypatch.setattr(sys, "argv", ["predictor"])
    monkeypatch.chdir(tmp_path)
    return calls


def _help(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys):
    assert cli.main([]) == 2
    out = capsys.readouterr().out
    assert "serve" in out
    assert "usage: predictor" in out


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"predictor {__version__}\n"


def test_help_names_every_setting_with_its_default(capsys):
    out = _help(capsys, "serve")
    words = " ".join(out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in out
        assert " ".join(field.description.split()) in words
    for heading in {field.json_schema_extra["group"] for field in Settings.model_fields.values()}:
        assert f"{heading}:" in out
    assert "[8080]" in out
    assert "[yes]" in out
    assert f"{ENV_PREFIX}MAX_BATCH_DELAY" in out


def test_help_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert max(map(len, _help(capsys, "serve").splitlines())) <= 104


def test_flags_become_settings(served):
    words = ["--port", "1234", "--no-access-log", "--max_batch_delay=5", "--log-format", "json"]
    assert cli.main(["serve", *words]) == 0
    ((settings, unknown),) = served
    assert (settings.port, settings.access_log, settings.max_batch_delay) == (1234, False, 5)
    assert settings.log_format == "json"
    assert settings.host == "127.0.0.1"
    assert unknown == []


def test_unknown_flags_are_passed_on_not_refused(served):
    assert cli.main(["serve", "--port", "1", "--enable_docs_url", "true", "--grpc=5", "--por", "3"]) == 0
    ((settings, unknown),) = served
    assert settings.port == 1, "no abbreviations"
    assert unknown == ["--enable_docs_url", "true", "--grpc=5", "--por", "3"]


def test_the_servers_libraries_do_not_see_our_command_line(served, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["predictor", "serve", "--port", "1"])
    assert cli.main() == 0
    assert sys.argv == ["predictor"]
    assert served[0][0].port == 1


def test_a_file_of_settings(served, tmp_path, monkeypatch):
    (tmp_path / "s.yaml").write_text("port: 5\nworkers: 3\n")
    monkeypatch.setenv("PREDICTOR_WORKERS", "4")
    assert cli.main(["serve", "--config", str(tmp_path / "s.yaml"), "--port", "6"]) == 0
    settings = served[0][0]
    assert (settings.port, settings.workers) == (6, 4)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--port", "http"], "predictor serve: --port: "),
        (["--config", "missing.yaml"], "predictor serve: missing.yaml: cannot be read"),
    ],
)
def test_wrong_settings_end_with_one_line_and_status_2(served, capsys, words, text):
    assert cli.main(["serve", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(text)
    assert "Traceback" not in error
    assert served == []


def test_a_choice_that_is_none(served, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--device", "tpu"])
    assert ended.value.code == 2
    assert "--device" in capsys.readouterr().err


def test_an_unknown_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["dance"])
    assert ended.value.code == 2
    assert "dance" in capsys.readouterr().err
