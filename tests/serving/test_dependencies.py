"""Installing requirements, with a pip that obeys the test."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from serving_fakes import archive, until
from support.processes import is_running

from predictor.serving import dependencies
from predictor.serving.dependencies import install_requirements


@pytest.mark.parametrize("start", [0.0, 0.5], ids=["running", "starting"])
async def test_a_pip_that_is_given_up_leaves_no_process(tmp_path, monkeypatch, start):
    begin = asyncio.create_subprocess_exec

    async def slow(*words, **options):
        process = await begin(*words, **options)
        await asyncio.sleep(start)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    note = tmp_path / "children"
    pip = tmp_path / "python"
    pip.write_text(f"#!/bin/sh\nsleep 60 &\necho $$ $! > {note}.part\nmv {note}.part {note}\nwait\n")
    pip.chmod(0o755)
    monkeypatch.setattr(dependencies.sys, "executable", str(pip))
    (tmp_path / "requirements.txt").write_text("nothing\n")
    model = dataclasses.replace(archive(), directory=tmp_path)
    task = asyncio.ensure_future(install_requirements(model, tmp_path / "scratch"))
    # An installation that fails shall say why.
    await until(lambda: note.exists() or task.done())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    processes = [int(number) for number in note.read_text().split()]
    await until(lambda: not any(is_running(process) for process in processes))
