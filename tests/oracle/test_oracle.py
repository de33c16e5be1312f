"""The same archives and the same requests as a real TorchServe 0.12 had: the same answers.

tests/oracle/archives were packed by torch-model-archiver, tests/oracle/recordings holds what TorchServe
answered; `support.oracle_record` makes both anew.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.models import REPOSITORY
from support.oracle_cases import CASES, Case, model_of
from support.oracle_corpus import ARCHIVES, CORPUS, GROUPS, RECORDINGS
from support.oracle_exchange import differences, exchange
from support.server import Server


class Servers:
    """One server at a time: that of the group that was asked for last."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._group = ""
        self._server: Server | None = None

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def get(self, name: str) -> Server:
        if self._group != name or self._server is None:
            self._stack.close()
            group = GROUPS[name]
            asked = {model_of(request) for case in CASES if case.group == name for request in case.requests}
            models = {item.name for item in CORPUS if item.store == group.store} & asked
            flags = ("--models", ",".join(sorted(models)), *group.flags)
            self._server = self._stack.enter_context(Server(ARCHIVES / group.store, *flags, wait=False))
            self._server.wait_started()
            self._group = name
        return self._server


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers() as running:
        yield running


@pytest.fixture(scope="module")
def recordings() -> dict[str, dict]:
    return {name: json.loads((RECORDINGS / f"{name}.json").read_text()) for name in GROUPS}


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.group}-{case.name}") for case in CASES])
def test_answers_as_torchserve_does(servers: Servers, case: Case, recordings) -> None:
    if case.needs and importlib.util.find_spec(case.needs) is None:
        pytest.skip(f"needs {case.needs}")
    server = servers.get(case.group)
    theirs = recordings[case.group][case.name]
    found = differences(case, theirs, exchange(server.port, case))
    assert not found, "\n".join(found)


def test_every_case_has_a_recording(recordings) -> None:
    missing = [case.name for case in CASES if case.name not in recordings[case.group]]
    assert not missing, "record them: see support/oracle_record.py"


def test_every_archive_was_packed() -> None:
    missing = [item.file for item in CORPUS if not (ARCHIVES / item.store / item.file).exists()]
    assert not missing


def test_every_difference_stands_in_the_guide() -> None:
    guide = (REPOSITORY / "docs" / "torchserve.md").read_text()
    known = set(re.findall(r"^\| `([a-z0-9-]+)` \|", guide, re.MULTILINE))
    assert {case.differs for case in CASES if case.differs} <= known
