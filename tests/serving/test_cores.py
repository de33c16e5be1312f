from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.serving.cores import usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("250000 100000\n", 3),
        ("50000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("", 8),
        ("200000\n", 8),
        ("0 0\n", 8),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("150000", 2)])
def test_the_older_interface_has_a_file_for_each_number(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == cores


def test_without_control_groups_every_core_counts(tmp_path):
    assert usable_cores(tmp_path / "absent") == 8


@given(content=st.binary(max_size=40))
def test_whatever_the_file_holds_there_is_an_answer(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("cgroup")
    (folder / "cpu.max").write_bytes(content)
    assert 1 <= usable_cores(folder) <= 8
