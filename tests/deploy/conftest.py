from __future__ import annotations

import pytest
from support.kube_api import KubeApi

from predictor.deploy import command, waiting


@pytest.fixture
def api():
    with KubeApi() as server:
        yield server


@pytest.fixture
def quick(monkeypatch):
    """Look twenty times a second, and believe what is seen at once."""
    monkeypatch.setattr(waiting.Patience, "__init__", _patience)


def _patience(self, timeout=600.0, interval=0.05, doubt=0.3):
    object.__setattr__(self, "timeout", timeout)
    object.__setattr__(self, "interval", interval)
    object.__setattr__(self, "doubt", doubt)


@pytest.fixture
def predictor(api, tmp_path, monkeypatch, capsys, quick):
    """Run a command against the API server; returns its exit status, stdout and stderr."""
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path)))

    def run(*words):
        status = command.main(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return run
