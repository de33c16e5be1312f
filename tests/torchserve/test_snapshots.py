from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.archives.archive import ModelArchive
from predictor.archives.manifest import Manifest
from predictor.archives.model_config import ModelConfig
from predictor.configuration import resolve
from predictor.serving.model import ServedModel
from predictor.serving.policy import ServingPolicy
from predictor.serving.pool import WorkerOptions
from predictor.serving.registry import Registry
from predictor.serving.store import resolve_policy
from predictor.torchserve.config import load_torchserve_config
from predictor.torchserve.models import DeclaredModel
from predictor.torchserve.properties import parse_properties, read_properties
from predictor.torchserve.snapshots import SnapshotWriter, last_snapshot, render_properties, snapshot_folder


def _model(name: str, version: str = "1.0", file: str = "m.mar", **policy: float) -> ServedModel:
    archive = ModelArchive(name, version, Path("/x"), Path("/store") / file, Manifest(), ModelConfig())
    return ServedModel(archive, ServingPolicy(**policy), WorkerOptions())


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def _only(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_was_in_force_is_what_the_next_start_reads(tmp_path, store):
    source = tmp_path / "config.properties"
    source.write_text(
        "max_request_size=1234\nload_models=all\nkeystore_pass=$$SECRET$$\nmodel_store=elsewhere\n"
    )
    registry = Registry()
    registry.add(_model("a", "1.0", "one.mar", min_workers=0, max_workers=0))
    registry.add(_model("a", "2.0", "two.mar", min_workers=2, max_workers=5, batch_size=4), default=True)
    registry.add(_model("a/b c", "1", "one.mar", max_batch_delay=0.02, response_timeout=9))
    SnapshotWriter(tmp_path / "logs", source, store).write(registry, "snapshot").result()
    file = _only(tmp_path / "logs")
    assert last_snapshot(tmp_path / "logs") == file
    assert "$$SECRET$$" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    read = load_torchserve_config(file, {"SECRET": "s"})
    assert read.settings["max_request_size"] == 1234
    assert read.settings["model_store"] == store.resolve()
    assert read.snapshot
    assert str(read.load_models) == "a=one.mar,a=two.mar,a/b c=one.mar"
    assert read.models == (
        DeclaredModel("a", "1.0", "one.mar", False, 0, 0, 1, 0, 120, 120, restored=True),
        DeclaredModel("a", "2.0", "two.mar", True, 2, 5, 4, 0, 120, 120, restored=True),
        DeclaredModel("a/b c", "1", "one.mar", True, 1, 1, 1, 20, 9, 120, restored=True),
    )
    snapshot = json.loads(read_properties(file)["model_snapshot"].value)
    assert (snapshot["name"], snapshot["modelCount"]) == (file.name, 2)


def test_numbers_of_a_snapshot_beat_the_models_own_config(store):
    settings = resolve({"model_store": store}, None).settings
    config = ModelConfig(min_workers=7, batch_size=3)
    told = DeclaredModel("m", "1.0", "m.mar", min_workers=1, max_workers=1)
    assert resolve_policy(config, told, settings, 1).min_workers == 7
    restored = DeclaredModel("m", "1.0", "m.mar", min_workers=1, max_workers=1, restored=True)
    policy = resolve_policy(config, restored, settings, 1)
    assert (policy.min_workers, policy.batch_size) == (1, 3)


def test_the_newest_one_counts_and_old_ones_go(tmp_path, store):
    writer = SnapshotWriter(tmp_path / "logs", None, store)
    old = [tmp_path / "logs" / f"2020010100000{number:04}-startup.cfg" for number in range(60)]
    (tmp_path / "logs").mkdir()
    for file in old:
        file.write_text("")
    (tmp_path / "logs" / "mine.cfg").write_text("")
    writer.write(Registry(), "shutdown").result()
    left = sorted(entry.name for entry in (tmp_path / "logs").iterdir())
    assert len(left) == 51
    assert "mine.cfg" in left
    assert last_snapshot(tmp_path / "logs").name.endswith("-shutdown.cfg")
    assert resolve({}, last_snapshot(tmp_path / "logs")).load.requests == ()


def test_a_folder_that_cannot_be_written_to_is_reported_once(tmp_path, store, caplog):
    (tmp_path / "file").write_text("")
    writer = SnapshotWriter(tmp_path / "file" / "logs", None, store)
    writer.write(Registry(), "startup").result()
    writer.write(Registry(), "snapshot").result()
    assert [record.message.split(":")[0] for record in caplog.records] == ["no snapshots are written"]


def test_where_snapshots_lie(tmp_path):
    assert snapshot_folder({}, tmp_path) == tmp_path / "logs" / "config"
    assert snapshot_folder({"LOG_LOCATION": "/var/log/ts"}, tmp_path) == Path("/var/log/ts/config")
    assert last_snapshot(tmp_path / "nowhere") is None


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_any_text_is_read_back_as_it_was_written(values):
    text = render_properties(values)
    assert {found.key: found.value for found in parse_properties(text, "x").values()} == values
