"""A hundred changes to a model while it is called: nothing is lost, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.test_management import Managed, change_under_load
from support.archives import make_archive
from support.processes import open_files, resident_bytes, wait_until

pytestmark = [pytest.mark.stress, pytest.mark.timeout(1800), pytest.mark.usefixtures("linux")]
_MEGABYTE = 1 << 20


def test_a_model_that_is_replaced_and_scaled_all_the_time(tmp_path: Path) -> None:
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    scratch.mkdir()
    make_archive(store, "one.mar", "m", "managed", version="1.0")
    make_archive(store, "two.mar", "m", "managed", version="2.0")
    with Managed(store, scratch, "--models", "none", "--enable-model-api") as managed:
        change_under_load(managed, rounds=2)
        before = (managed.workers(), len(open_files(managed.pid)), managed.scratch())
        memory = resident_bytes(managed.pid)
        assert change_under_load(managed, rounds=20, clients=16) > 1_000
        wait_until(
            lambda: (managed.workers(), len(open_files(managed.pid)), managed.scratch()) == before,
            20,
            f"as before: {before}",
        )
        assert resident_bytes(managed.pid) - memory < 40 * _MEGABYTE
    assert sorted(entry.name for entry in scratch.iterdir() if entry.name.startswith("predictor-")) == []
