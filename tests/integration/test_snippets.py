"""The programs in docs/protocols.md, run as they stand there, but for the port."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_PAGE = (Path(__file__).parents[2] / "docs" / "protocols.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL)
_ADDRESS = "http://127.0.0.1:8080"
SENTENCE = "Wait until the thread releases the lock."


def _program(language, mark=""):
    """Return the only program of a language on the page that holds `mark`."""
    (found,) = [text for name, text in _BLOCKS if name == language and mark in text]
    assert _ADDRESS in found
    return found


def _run(server, folder, name, program, *command):
    """Run a program against `server` and return its lines."""
    (folder / name).write_text(program.replace(_ADDRESS, f"http://127.0.0.1:{server.port}"))
    done = subprocess.run(
        [*command, name], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def label(samples):
    """What the model answers to the sentence of the programs."""
    return samples.post("/predict/docstrings", {"text": SENTENCE}).json()["label"]


@pytest.fixture
def node():
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs Node.js 18 or newer")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < 18:
        pytest.skip(f"needs Node.js 18 or newer, not {version}")
    return found


def _modules_with_axios():
    """Return the node_modules folder that has axios: PREDICTOR_NODE_MODULES, or npm's global one."""
    folder = os.environ.get("PREDICTOR_NODE_MODULES", "")
    npm = shutil.which("npm")
    if not folder and npm:
        folder = subprocess.run(
            [npm, "root", "-g"], capture_output=True, text=True, timeout=60, check=False
        ).stdout.strip()
    if not folder or not (Path(folder) / "axios").is_dir():
        pytest.skip("needs axios: npm install -g axios, or PREDICTOR_NODE_MODULES")
    return Path(folder)


def test_requests(samples, label, tmp_path):
    program = _program("python", "import requests")
    assert _run(samples, tmp_path, "snippet.py", program, sys.executable) == [label]


def test_fetch(samples, node, tmp_path):
    assert _run(samples, tmp_path, "snippet.mjs", _program("javascript", "await fetch("), node) == ["2 4"]


def test_axios(samples, node, label, tmp_path):
    (tmp_path / "node_modules").symlink_to(_modules_with_axios())
    lines = _run(samples, tmp_path, "snippet.mjs", _program("javascript", "import axios"), node)
    assert lines == [label, "400 Missing required input: 'text'"]


def test_go(samples, label, tmp_path):
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs Go")
    assert _run(samples, tmp_path, "snippet.go", _program("go"), go, "run") == [f"{label} 4"]
