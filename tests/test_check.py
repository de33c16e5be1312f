"""`predictor check`, on archives without an example."""

from __future__ import annotations

import subprocess
import sys

_HANDLER = """
def handle(data, context):
    if data is None:
        return None
    raise RuntimeError("broken on purpose")
"""


def _check(folder, *words):
    (folder / "handler.py").write_text(_HANDLER)
    command = [sys.executable, "-m", "predictor", "check", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_what_nobody_can_make_up_is_not_held_against_an_archive(tmp_path):
    result = _check(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "✓ loaded" in result.stdout
    assert "not tried: no example" in result.stdout
    assert "--input" in result.stdout


def test_a_failing_handler_is_told_with_the_end_of_its_stack_trace(tmp_path):
    example = tmp_path / "any.txt"
    example.write_text("hello")
    result = _check(tmp_path, "--input", str(example))
    assert result.returncode == 1
    assert "RuntimeError: broken on purpose" in result.stderr
    assert len(result.stderr.splitlines()) <= 5
    whole = _check(tmp_path, "--input", str(example), "--log-level", "error")
    assert "Traceback" in whole.stderr
