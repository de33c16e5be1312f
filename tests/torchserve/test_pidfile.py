from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from predictor.torchserve.pidfile import PidFile, default_path

IGNORES_ONE_SIGNAL = """
import signal, sys
def handle(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGTERM, handle)
print("ready", flush=True)
while True: signal.pause()
"""


@pytest.fixture
def pid_file(tmp_path):
    return PidFile(tmp_path / "server.pid")


def test_one_server_at_a_time(pid_file):
    assert pid_file.running_process() is None
    assert pid_file.acquire()
    assert pid_file.running_process() == 0
    pid_file.write(123)
    other = PidFile(pid_file.path)
    assert other.running_process() == 123
    assert not other.acquire()
    pid_file.release(ended=True)
    assert pid_file.path.read_bytes() == b""
    assert other.acquire()
    other.release(ended=True)


def test_only_one_of_many_gets_it(pid_file):
    files = [PidFile(pid_file.path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(PidFile.acquire, files)) == 1


def test_a_number_left_behind_is_no_server(pid_file):
    pid_file.path.write_text(f"{os.getpid()}\n")
    assert pid_file.running_process() is None
    assert pid_file.stop(1)
    assert pid_file.acquire()
    assert pid_file.running_process() == 0
    pid_file.release(ended=True)


def test_nonsense_in_the_file_is_not_signalled(pid_file):
    pid_file.acquire()
    os.pwrite(pid_file.descriptor, "-1 ä".encode(), 0)
    assert PidFile(pid_file.path).running_process() == 0
    assert not PidFile(pid_file.path).stop(0.2)
    pid_file.release(ended=True)


def test_links_are_not_followed(pid_file, tmp_path):
    (tmp_path / "precious").write_text("keep")
    pid_file.path.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link"):
        pid_file.acquire()
    assert pid_file.running_process() is None
    assert (tmp_path / "precious").read_text() == "keep"


def test_the_lock_is_the_childs_until_it_ends(pid_file):
    pid_file.acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", IGNORES_ONE_SIGNAL], pass_fds=(pid_file.descriptor,), stdout=subprocess.PIPE
    )
    with child:
        pid_file.write(child.pid)
        pid_file.release(ended=False)
        assert child.stdout.readline() == b"ready\n"
        assert pid_file.running_process() == child.pid
        assert pid_file.stop(10)  # the second signal comes after five seconds
    assert child.returncode == -signal.SIGTERM
    assert pid_file.running_process() is None


def test_descriptor_needs_the_lock(pid_file):
    with pytest.raises(ValueError, match="not locked"):
        _ = pid_file.descriptor


def test_each_user_has_a_file_in_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert default_path() == tmp_path / f".predictor-torchserve-{os.getuid()}.pid"
