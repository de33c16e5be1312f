"""Hostile archives and handlers, end to end: a clear error, and everything else unharmed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.oracle_corpus import HANDLERS
from support.oracle_hostile import ECHO, bad_archives, bad_models, failing_code, write_mar
from support.server import Server

_SECONDS = 90.0


class Hostile:
    """A server with good, bad and wild models, and what its log must say of the bad ones."""

    def __init__(self, store: Path) -> None:
        self.store = store
        store.mkdir()
        write_mar(store / "good.mar", {"h.py": ECHO})
        wild = (HANDLERS / "wild.py").read_text()
        failing_code(store / "wild.mar", wild, "responseTimeout: 6\nmaxRetryTimeoutInSec: 120\n")
        failing_code(store / "deleting.mar", wild)
        self.folder = store / "folder"
        self.folder.mkdir()
        (self.folder / "handler.py").write_text(wild)
        self.unopened = bad_archives(store)
        self.unloaded = bad_models(store)
        self.server = Server(store, "--max-retry-timeout", "60", wait=False)

    def check_good(self) -> None:
        response = self.server.post("/predictions/good", b"x")
        assert (response.status, response.body) == (200, b"fine"), self.server.log()[-3000:]

    def wait_alive(self, model: str = "wild") -> None:
        """Wait until the model answers again: its worker may be a new one."""
        deadline = time.monotonic() + _SECONDS
        while (response := self.server.post(f"/predictions/{model}", b"alive")).body != b"alive":
            assert time.monotonic() < deadline, f"{response}\n{self.server.log()[-3000:]}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    made = Hostile(tmp_path_factory.mktemp("hostile") / "store")
    with made.server:
        made.server.wait_started()
        yield made


@pytest.fixture(scope="module")
def log(hostile: Hostile) -> str:
    hostile.server.wait_started()
    return hostile.server.log()


def test_nothing_is_written_outside(hostile: Hostile) -> None:
    assert not (hostile.store.parent / "outside.txt").exists()


def test_archives_that_cannot_be_opened_are_named_with_the_member_at_fault(
    hostile: Hostile, log: str
) -> None:
    for file, member in hostile.unopened.items():
        lines = [line for line in log.splitlines() if file in line]
        assert lines, f"nothing about {file}"
        assert any(member in line for line in lines), (file, lines)


def test_archives_that_cannot_be_opened_are_not_served(hostile: Hostile) -> None:
    for file in hostile.unopened:
        assert hostile.server.post(f"/predictions/{file.partition('.')[0]}", b"x").status == 404
    hostile.check_good()


def test_models_that_cannot_be_loaded_say_why(hostile: Hostile) -> None:
    for name, text in hostile.unloaded.items():
        hostile.server.wait_log(f"model {name} ")
        deadline = time.monotonic() + _SECONDS
        while not any(name in line and text in line for line in hostile.server.log().splitlines()):
            assert time.monotonic() < deadline, [
                line for line in hostile.server.log().splitlines() if f" {name} " in line
            ]
            time.sleep(0.2)


def test_models_that_cannot_be_loaded_answer_with_an_error(hostile: Hostile) -> None:
    for name in hostile.unloaded:
        response = hostile.server.post(f"/predictions/{name}", b"x")
        assert (response.status, response.json()["type"]) == (503, "ServiceUnavailableException"), name
    hostile.check_good()


_ANSWERED = {
    "print": "printed",
    "close_stdout": "closed",
    "thread_raises": "survived",
    "threads": "True",
    "orphan": "started",
    "cwd": "/",
    "fork": "the parent",
    "fork_exit": "the parent",
    "ignore_signals": "ignored",
}


@pytest.mark.parametrize("order", _ANSWERED)
def test_answers_although_the_handler_does_odd_things(hostile: Hostile, order: str) -> None:
    # Without a time limit of six seconds: on a busy machine the end of a forked process takes longer.
    hostile.wait_alive("folder")
    response = hostile.server.post("/predictions/folder", order.encode(), timeout=_SECONDS)
    assert (response.status, response.body) == (200, _ANSWERED[order].encode()), hostile.server.log()[-3000:]
    hostile.check_good()
    hostile.wait_alive("folder")


_FAILED = {
    "exit": (503, "Prediction failed"),
    "hard_exit": (500, "Worker died."),
    "segfault": (500, "Worker died."),
    "abort": (500, "Worker died."),
    "loop": (500, "Worker died."),
    "huge": (500, "max_response_size"),
    "deep": (503, "Unsupported model output data type."),
    "cyclic": (503, "Unsupported model output data type."),
    "recursion": (503, "Prediction failed"),
}


@pytest.mark.parametrize("order", _FAILED)
def test_fails_alone(hostile: Hostile, order: str) -> None:
    hostile.wait_alive()
    response = hostile.server.post("/predictions/wild", order.encode(), timeout=_SECONDS)
    status, text = _FAILED[order]
    assert response.status == status, response
    assert text in response.json()["message"]
    hostile.check_good()
    hostile.wait_alive()


@pytest.mark.parametrize("order", ["close_fds", "write_fds", "environment", "patch"])
def test_a_worker_that_ruins_its_process_is_replaced(hostile: Hostile, order: str) -> None:
    """Whether such a request is answered is a matter of luck; that it hurts nobody else is not."""
    hostile.wait_alive()
    response = hostile.server.post("/predictions/wild", order.encode(), timeout=_SECONDS)
    assert response.status in (200, 500, 503)
    hostile.check_good()
    hostile.wait_alive()


def test_a_model_folder_is_not_written_to(hostile: Hostile) -> None:
    hostile.wait_alive("folder")
    assert sorted(path.name for path in hostile.folder.rglob("*")) == ["handler.py"]
    assert hostile.store.joinpath("wild.mar").is_file()


def test_an_unpacked_archive_that_deletes_itself_goes_on(hostile: Hostile) -> None:
    hostile.wait_alive("deleting")
    assert hostile.server.post("/predictions/deleting", b"delete_folder").body == b"deleted"
    hostile.wait_alive("deleting")
    hostile.check_good()
    assert hostile.store.joinpath("deleting.mar").is_file()


def test_the_server_stops_in_the_end_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    failing_code(store / "wild.mar", (HANDLERS / "wild.py").read_text(), "responseTimeout: 6\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    flags = ("--grace-period", "3")
    with Server(store, *flags, environment={"TMPDIR": str(scratch)}) as server:
        assert server.post("/predictions/wild", b"ignore_signals").body == b"ignored"
        assert server.post("/predictions/wild", b"threads").body == b"True"
        server.stop()
        assert server.wait_exit() == 0
    left = [path for path in scratch.iterdir() if path.is_dir()]
    assert not left, left
    shutil.rmtree(scratch)
