from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from predictor.ipc.messages import ModelInfo
from predictor.serving.model import ModelState
from predictor.serving.policy import ServingPolicy
from predictor.serving.registry import Registry
from predictor.startup import describe_start


@dataclasses.dataclass
class _Archive:
    directory: Path


class _Worker:
    alive = True


class _Model:
    def __init__(self, name, directory, state=ModelState.READY, failure=""):
        self.name, self.version = name, "1.0"
        self.state, self.failure = state, failure
        self.ready = state is ModelState.READY
        self.device = "cpu"
        self.policy = ServingPolicy(batch_size=8)
        self.workers = [_Worker()]
        self.info = ModelInfo(description="Reads digits.")
        self.archive = _Archive(directory)


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def describe(*models, url="http://127.0.0.1:8080"):
        registry = Registry()
        for model in models:
            registry.add(model)
        return list(describe_start(registry, url))

    return describe


def test_what_is_served_where_and_on_which_device(start, tmp_path):
    lines = start(_Model("digits", tmp_path))
    assert lines[0] == "serving 1 model on http://127.0.0.1:8080"
    assert lines[1].split() == (
        [
            "digits",
            "1.0",
            "ready",
            "on",
            "cpu,",
            "1",
            "worker,",
            "batches",
            "of",
            "up",
            "to",
            "8",
            "Reads",
            "digits.",
        ]
    )
    assert any("http://127.0.0.1:8080/predictions/MODEL" in line for line in lines)
    assert any("http://127.0.0.1:8080/v1/models/MODEL:predict" in line for line in lines)
    assert not any("curl" in line for line in lines)


def test_what_is_not_ready_says_why(start, tmp_path):
    failed = _Model("a", tmp_path, ModelState.RECOVERING, "could not load its model: OSError: no")
    loading = _Model("b", tmp_path, ModelState.LOADING)
    lines = start(failed, loading)
    assert lines[0].startswith("serving 2 models")
    assert "not ready: could not load its model: OSError: no" in lines[1]
    assert "not ready: loading" in lines[2]


def test_no_model_at_all(start):
    assert start()[0] == "serving 0 models on http://127.0.0.1:8080"


def _example(folder, name):
    (folder / "examples").mkdir(parents=True)
    (folder / "examples" / name).write_text("{}")


def test_lines_to_paste(start, tmp_path):
    _example(tmp_path / "digits", "seven.png")
    _example(tmp_path / "wine", "wine.json")
    lines = start(_Model("digits", tmp_path / "digits"), _Model("wine", tmp_path / "wine"))
    assert "  curl -T digits/examples/seven.png http://127.0.0.1:8080/predictions/digits" in lines
    json_line = next(line for line in lines if "wine.json" in line)
    assert "-d @wine/examples/wine.json http://127.0.0.1:8080/predict/wine" in json_line


def test_lines_to_paste_survive_a_shell(start, tmp_path):
    _example(tmp_path / "my models", "a picture.png")
    line = next(line for line in start(_Model("m", tmp_path / "my models")) if "curl" in line)
    import shlex

    assert shlex.split(line)[2] == "my models/examples/a picture.png"


def test_at_most_three_examples(start, tmp_path):
    models = []
    for name in "abcde":
        _example(tmp_path / name, "x.png")
        models.append(_Model(name, tmp_path / name))
    assert sum("curl" in line for line in start(*models)) == 3


def test_a_socket_file(start, tmp_path):
    _example(tmp_path / "m", "x.png")
    lines = start(_Model("m", tmp_path / "m"), url="unix:/run/my server.sock")
    assert lines[0] == "serving 1 model on unix:/run/my server.sock"
    line = next(line for line in lines if "curl" in line)
    assert (
        "curl --unix-socket '/run/my server.sock' -T m/examples/x.png http://localhost/predictions/m" in line
    )
