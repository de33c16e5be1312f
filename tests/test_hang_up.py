"""SIGHUP while the server starts: it never ends it, and counts from the opening of the model store on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

_DURING_IMPORTS = """
import importlib.abc, os, signal, sys, types
class HangUp(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("predictor.cli", "predictor.torchserve.launcher", "pydantic", "predictor.serving"):
            os.kill(os.getpid(), signal.SIGHUP)
def serve(configuration, unknown):
    os.kill(os.getpid(), signal.SIGHUP)
    return 7
sys.meta_path.insert(0, HangUp())
sys.modules["predictor.server"] = types.SimpleNamespace(serve=serve)
command, *sys.argv = sys.argv[1:]
from predictor import __main__
sys.exit(getattr(__main__, command)())
"""

_DURING_OPEN = """
import os, signal, sys
from predictor.__main__ import main
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
sys.argv[1:] = ["serve", *sys.argv[1:], "--models", "none", "--port", "0", "--grpc-port", "0"]
sys.argv += ["--drain-delay", "0"]
sys.exit(main())
"""


# Begins a program as in a terminal: tests that run under nohup ignore SIGHUP, and so would their programs.
_IN_A_TERMINAL = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.execvp(sys.argv[1], sys.argv[1:])
"""
_PROGRAM = [sys.executable, "-c", _IN_A_TERMINAL]


def _run(script, *words, **environ):
    return subprocess.run(
        [*_PROGRAM, sys.executable, "-c", script, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environ,
    )


def test_before_the_server_is_there(tmp_path):
    words = ["predictor", "serve", "--model-store", tmp_path, "--port", "0"]
    assert _run(_DURING_IMPORTS, "main", *words).returncode == 7


def test_before_torchserve_has_read_its_command_line(tmp_path):
    words = ["torchserve", "--foreground", "--ncs", "--model-store", tmp_path]
    # The file with the server's process lies where temporary files do.
    assert _run(_DURING_IMPORTS, "torchserve", *words, TMPDIR=str(tmp_path)).returncode == 7


def test_other_commands_end_as_any_program_does():
    assert _run(_DURING_IMPORTS, "main", "predictor", "status").returncode == -signal.SIGHUP


def test_while_the_store_is_opened_it_leads_to_a_reload(tmp_path):
    result = _run(_DURING_OPEN, "--model-store", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "SIGHUP: reading the model store again" in result.stderr


def test_the_image_ignores_it_before_its_interpreter_starts(tmp_path):
    entrypoint = Path(__file__).parents[1] / "docker" / "entrypoint.sh"
    for command in ("predictor", "torchserve"):
        (tmp_path / command).write_text("#!/bin/sh\nkill -HUP $$\necho $0 $1\n")
        (tmp_path / command).chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for words in ([], ["--port", "1"], ["serve"], ["torchserve", "--start"]):
        result = subprocess.run(
            [*_PROGRAM, "sh", str(entrypoint), *words], env=environ, capture_output=True, check=False
        )
        assert result.returncode == 0, words
    words = [*_PROGRAM, "sh", str(entrypoint), "predictor", "top"]
    result = subprocess.run(words, env=environ, check=False)
    assert result.returncode == -signal.SIGHUP
