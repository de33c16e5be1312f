from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.settings import Settings, load_settings
from predictor.torchserve.config import (
    TorchServeConfig,
    find_kserve_layout,
    load_torchserve_config,
)
from predictor.torchserve.keys import KEYS
from predictor.torchserve.models import DeclaredModel, LoadModels, ModelRequest
from predictor.torchserve.properties import PropertiesError

SNAPSHOT = (
    '{"name":"startup.cfg","modelCount":1,"models":{"mnist":{"1.0":{"defaultVersion":true,'
    '"marName":"mnist.mar","minWorkers":1,"maxWorkers":5,"batchSize":1,"maxBatchDelay":10,"responseTimeout":120}}}}'
)
MNIST = DeclaredModel("mnist", "1.0", "mnist.mar", True, 1, 5, 1, 10, 120)


@pytest.fixture
def load(tmp_path):
    """Read a configuration from its text."""

    def load(text: str, **environ: str) -> TorchServeConfig:
        (tmp_path / "config.properties").write_text(text, encoding="utf-8")
        return load_torchserve_config(tmp_path / "config.properties", environ)

    return load


@pytest.mark.parametrize(
    "text", ["", "8080", "0.0.0.0:8080", "ftp://x:1", "http://x:y", "http://x:65536", "unix:", "http://"]
)
def test_what_is_no_address(text, load):
    with pytest.raises(PropertiesError, match=r"config\.properties:2: inference_address: "):
        load(f"a=1\ninference_address={text}")


def test_nothing_is_read_without_a_file():
    assert load_torchserve_config(None, {"TS_JOB_QUEUE_SIZE": "7"}) == TorchServeConfig()


def test_settings_are_those_that_the_settings_know(load):
    config = load(
        "job_queue_size=7\ndecode_input_request=false\nmodel_store=store\nlimit_max_image_pixels=TRUE\n"
    )
    expected = {
        "queue_size": 7,
        "decode_input": False,
        "model_store": Path("store"),
        "limit_max_image_pixels": True,
    }
    assert config.settings == expected
    assert load_settings(config.settings, None).queue_size == 7
    assert config.problems == ()
    assert len(config.notes) == 4


def test_other_settings_are_kept_apart_and_reported(load):
    fields = dict(Settings.model_fields)
    del Settings.model_fields["queue_size"]
    try:
        config = load("job_queue_size=7")
    finally:
        # All of them anew, because others look at their order.
        Settings.model_fields.clear()
        Settings.model_fields.update(fields)
    assert (config.settings, config.planned) == ({}, {"queue_size": 7})
    assert "no effect yet" in config.problems[0]


def everything(config: TorchServeConfig) -> dict[str, object]:
    return {**config.settings, **config.planned}


def test_tls_and_unix_addresses(load):
    assert everything(load("inference_address=https://0.0.0.0:8443")) == {
        "host": "0.0.0.0",
        "port": 8443,
        "tls": True,
    }
    assert everything(load("inference_address=unix:/tmp/s")) == {"unix_socket": Path("/tmp/s")}


def test_negated_flags_and_secrets(load):
    config = load("disable_token_authorization=true\nkeystore_pass=hush\ntoken_expiration_min=1.5")
    assert everything(config) == {
        "token_authorization": False,
        "tls_keystore_password": "hush",
        "token_expiration": 1.5,
    }
    assert "hush" not in " ".join(config.notes + config.problems)


def test_flags_that_are_neither_true_nor_false_are_false_and_reported(load):
    config = load("decode_input_request=yes")
    assert config.settings == {"decode_input": False}
    assert "neither true nor false" in config.problems[0]


@pytest.mark.parametrize("value", ["", "x", "1.5", "1e3", "2147483648", "-2147483649", "1_0"])
def test_numbers_that_are_none_name_file_and_line(value, load):
    with pytest.raises(
        PropertiesError, match=r"config\.properties:1: job_queue_size: .* is not a whole number"
    ):
        load(f"job_queue_size={value}")
    with pytest.raises(PropertiesError, match=r"^TS_JOB_QUEUE_SIZE: job_queue_size: "):
        load("enable_envvars_config=true", TS_JOB_QUEUE_SIZE=value)


def test_zero_default_workers_leave_our_default(load):
    assert load("default_workers_per_model=0").settings == {}
    assert load("default_workers_per_model=3").settings == {"workers": 3}


def test_every_key_that_is_read_is_mentioned(load):
    text = (
        "io_ratio=50\njob_queue_sise=1\nno_such_key=1\nmodels={}\nmodel_snapshot=\nenable_envvars_config=no"
    )
    config = load(text)
    for line in text.splitlines():
        key = line.split("=")[0]
        assert any(note.startswith(key + " (") for note in config.notes), key
    assert "io_ratio" in config.problems[0]
    assert "because" in config.problems[0]
    assert "did you mean job_queue_size?" in config.problems[1]
    assert "did you mean" not in config.problems[2]


def test_the_environment_overrides_only_when_the_file_says_so(load):
    environ = {"TS_JOB_QUEUE_SIZE": "7", "TS_SERVICE_ENVELOPE": "kserve", "TS_MODELS": "{}"}
    assert load("job_queue_size=5", **environ).settings == {"queue_size": 5}
    assert everything(load("job_queue_size=5\nenable_envvars_config=True", **environ)) == {
        "queue_size": 7,
        "service_envelope": "kserve",
    }


def test_allowed_urls_need_a_permission_of_their_own(load):
    text = "enable_envvars_config=true\nallowed_urls=https://mine/.*\n"
    assert everything(load(text, TS_ALLOWED_URLS=".*")) == {"allowed_urls": "https://mine/.*"}
    assert everything(load(text + "use_env_allowed_urls=true", TS_ALLOWED_URLS=".*")) == {
        "allowed_urls": ".*"
    }


def test_references_are_replaced_in_the_file_only(load):
    config = load(
        "model_store=$$STORE$$/x\nenable_envvars_config=true", STORE="/s", TS_LOAD_MODELS="$$STORE$$"
    )
    assert config.settings == {"model_store": Path("/s/x"), "models": "$$STORE$$"}


def test_load_models(load):
    config = load("load_models=a.mar, b=c.mar")
    assert config.load_models == LoadModels(requests=(ModelRequest("a.mar"), ModelRequest("c.mar", "b")))
    assert config.settings["models"] == "a.mar,b=c.mar"
    assert load("load_models=ALL").settings["models"] == "all"
    assert load("load_models=").settings["models"] == "none"
    assert load("").load_models is None


def test_a_snapshot_says_what_to_load(load):
    config = load(f"model_snapshot={SNAPSHOT}\nload_models=all")
    assert config.models == (MNIST,)
    assert config.snapshot
    assert config.load_models == LoadModels(requests=(ModelRequest("mnist.mar", "mnist"),))
    assert config.settings == {"models": "mnist=mnist.mar"}
    assert any("load_models does not count" in problem for problem in config.problems)


@pytest.mark.parametrize("order", [1, -1])
def test_a_snapshot_beats_models(order, load):
    other = 'models={"mnist": {"1.0": {"minWorkers": 3}, "2.0": {"minWorkers": 4}}}'
    config = load("\n".join([f"model_snapshot={SNAPSHOT}", other][::order]))
    assert sorted(config.models, key=lambda model: model.version) == [
        MNIST,
        DeclaredModel("mnist", "2.0", "mnist.mar", min_workers=4),
    ]
    assert config.settings["models"] == "mnist=mnist.mar"


def test_models_alone_load_nothing(load):
    config = load('models={"m": {"1.0": {"batchSize": 8}}}')
    assert config.models == (DeclaredModel("m", "1.0", "m.mar", batch_size=8),)
    assert config.load_models is None
    assert config.settings == {}


@pytest.fixture
def layout(tmp_path):
    """Make a folder as KServe mounts it."""
    (tmp_path / "config").mkdir()
    (tmp_path / "model-store").mkdir()
    (tmp_path / "config" / "config.properties").write_text(f"model_snapshot={SNAPSHOT}\n")
    return tmp_path


def test_kserves_layout_is_found(layout):
    assert find_kserve_layout(layout) == layout / "config" / "config.properties"
    assert find_kserve_layout(layout / "config") is None
    (layout / "model-store").rmdir()
    assert find_kserve_layout(layout) is None


@pytest.mark.parametrize("line", ["", "model_store=/mnt/nowhere/model-store\n"])
def test_kserves_store_is_beside_the_configuration(line, layout, monkeypatch):
    file = layout / "config" / "config.properties"
    file.write_text(line + file.read_text())
    assert load_torchserve_config(file, {}).settings["model_store"] == layout / "model-store"
    monkeypatch.chdir(layout)
    relative = load_torchserve_config(Path("config/config.properties"), {})
    assert relative.settings["model_store"] == layout / "model-store"


def test_a_store_that_exists_is_used_as_it_is(layout):
    file = layout / "config" / "config.properties"
    file.write_text(f"model_store={layout}\n")
    assert load_torchserve_config(file, {}).settings["model_store"] == layout


lines = st.builds(
    "{}={}".format, st.sampled_from(sorted(KEYS)), st.text(st.characters(codec="ascii")) | st.just("true")
)


@given(st.lists(lines))
def test_any_file_is_read_or_refused_with_its_place(tmp_path_factory, given_lines):
    file = tmp_path_factory.getbasetemp() / "any.properties"
    file.write_text("\n".join(given_lines), newline="")
    try:
        config = load_torchserve_config(file, {"AB": "1"})
    except PropertiesError as error:
        assert str(error).startswith(f"{file}:")  # noqa: PT017 - either outcome is right
    else:
        assert set(config.settings) <= set(Settings.model_fields)
        assert set(config.problems) <= set(config.notes)


def test_neither_torch_nor_kserve_is_imported():
    code = (
        "import sys, predictor.torchserve.launcher; print({'torch', 'kserve', 'uvicorn'} & set(sys.modules))"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ
    )
    assert output.stdout == "set()\n"
