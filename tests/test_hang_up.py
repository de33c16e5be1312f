"""SIGHUP while the server starts: it never ends it, and counts from the opening of the model store on."""

from __future__ import annotations

import subprocess
import sys

_DURING_IMPORTS = """
import os, signal, sys, types
from predictor import cli
def serve(configuration, unknown):
    os.kill(os.getpid(), signal.SIGHUP)
    return 7
sys.modules["predictor.server"] = types.SimpleNamespace(serve=serve)
sys.exit(cli.main(["serve", "--model-store", sys.argv[1], "--port", "0"]))
"""

_DURING_OPEN = """
import os, signal, sys
from predictor import cli
from predictor.serving.reload import Reloader
from predictor.serving.store import ModelStore
opened = ModelStore.open
def open_and_hang_up(store):
    os.kill(os.getpid(), signal.SIGHUP)
    return opened(store)
async def run(reloader):
    os.kill(os.getpid(), signal.SIGTERM)
ModelStore.open = open_and_hang_up
Reloader.run = run
words = ["--model-store", sys.argv[1], "--models", "none", "--port", "0", "--grpc-port", "0"]
sys.exit(cli.main(["serve", *words, "--drain-delay", "0"]))
"""


def _run(script, folder):
    return subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )


def test_before_the_server_is_there(tmp_path):
    assert _run(_DURING_IMPORTS, tmp_path).returncode == 7


def test_while_the_store_is_opened_it_leads_to_a_reload(tmp_path):
    result = _run(_DURING_OPEN, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "SIGHUP: reading the model store again" in result.stderr
