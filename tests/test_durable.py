"""What is written to the disk, and in which order: a power cut cannot be had in a test."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from predictor import durable


@pytest.fixture
def events(monkeypatch):
    """Record what is synced and renamed, in order."""
    seen = []
    rename, sync = Path.replace, os.fsync

    def replace(self, target):
        seen.append("rename")
        return rename(self, target)

    def fsync(descriptor):
        seen.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(os, "fsync", fsync)
    return seen


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path, events):
    (tmp_path / "partial").write_text("new")
    (tmp_path / "target").write_text("old")
    durable.put(tmp_path / "partial", tmp_path / "target")
    assert events == ["file", "rename", "folder"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_syncs_no_folders_is_good_enough(tmp_path, monkeypatch, number, raises):
    sync = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "partial").write_text("new")
    if raises:
        with pytest.raises(OSError, match=os.strerror(number)):
            durable.put(tmp_path / "partial", tmp_path / "target")
    else:
        durable.put(tmp_path / "partial", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "new"


def test_content_that_cannot_be_kept_gets_no_name(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "partial").write_text("new")
    (tmp_path / "target").write_text("old")
    with pytest.raises(OSError, match="No space left"):
        durable.put(tmp_path / "partial", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "old"
