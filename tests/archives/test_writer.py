from __future__ import annotations

import json
import os
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from predictor.archives.archive import open_archive
from predictor.archives.errors import ArchiveError
from predictor.archives.writer import ArchiverOptions, build_manifest, package_model

MEMBERS = {
    ".hiddenfile",
    "MAR-INF/MANIFEST.json",
    "a.txt",
    "conf.yaml",
    "handler.py",
    "model.py",
    "requirements.txt",
    "sub/b.txt",
    "v1.txt",
    "v2.txt",
    "w.pt",
}
"""What torch-model-archiver 0.12.0 wrote for `sources` (seen in a run of it)."""


@pytest.fixture
def sources(tmp_path, monkeypatch):
    folder = tmp_path / "src"
    for name in ("handler.py", "model.py", "w.pt", "conf.yaml", "requirements.txt", "v1.txt", "v2.txt"):
        _write(folder / name, f"content of {name}" if name != "conf.yaml" else "batchSize: 2")
    for name in ("a.txt", "sub/b.txt", "sub/.hid/c", "__pycache__/d.pyc", ".git/e", ".hiddenfile"):
        _write(folder / "extra" / name, name)
    (folder / "extra" / "empty").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(folder)
    return folder


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def options(tmp_path: Path, **changes: object) -> ArchiverOptions:
    values: dict[str, object] = {
        "model_name": "m",
        "handler": "handler.py",
        "version": "1.0",
        "serialized_file": "./w.pt",
        "model_file": "model.py",
        "extra_files": "extra/, v?.txt",
        "requirements_file": "requirements.txt",
        "config_file": "conf.yaml",
        "export_path": tmp_path / "out",
    }
    return ArchiverOptions(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("archive_format", "name", "method"),
    [("default", "m.mar", zipfile.ZIP_DEFLATED), ("zip-store", "m.mar", zipfile.ZIP_STORED)],
)
def test_zip_members(tmp_path, sources, archive_format, name, method):
    path = package_model(options(tmp_path, archive_format=archive_format))
    assert path == tmp_path / "out" / name
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == MEMBERS
        assert archive.read("sub/b.txt") == b"sub/b.txt"
        assert {info.compress_type for info in archive.infolist()} == {method}
    assert [p.name for p in (tmp_path / "out").iterdir()] == [name]


def test_tgz_members_lie_in_a_folder_of_the_models_name(tmp_path, sources):
    path = package_model(options(tmp_path, archive_format="tgz"))
    assert path.name == "m.tar.gz"
    with tarfile.open(path) as archive:
        assert {member.name for member in archive} == {f"m/{name}" for name in MEMBERS}
        assert all(member.isreg() for member in archive)


def test_links_become_files_in_a_tgz(tmp_path, sources):
    (sources / "extra" / "soft").symlink_to("../v1.txt")
    os.link(sources / "v1.txt", sources / "extra" / "hard")
    with tarfile.open(package_model(options(tmp_path, archive_format="tgz"))) as archive:
        assert archive.getmember("m/soft").isreg()
        assert archive.getmember("m/hard").isreg()


def test_no_archive_is_a_folder(tmp_path, sources):
    path = package_model(options(tmp_path, archive_format="no-archive"))
    assert {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()} == MEMBERS
    with pytest.raises(ArchiveError, match="already exists"):
        package_model(options(tmp_path, archive_format="no-archive"))
    package_model(options(tmp_path, archive_format="no-archive", force=True))


@pytest.mark.parametrize("archive_format", ["default", "zip-store", "tgz", "no-archive"])
def test_what_is_written_can_be_opened(tmp_path, sources, archive_format):
    archive = open_archive(package_model(options(tmp_path, archive_format=archive_format)), tmp_path / "s")
    assert (archive.name, archive.version, archive.manifest.handler) == ("m", "1.0", "handler.py")
    assert archive.config.batch_size == 2
    assert archive.problems() == ()


def test_the_manifest_has_torch_model_archivers_keys(tmp_path):
    manifest = build_manifest(options(tmp_path, handler="some/where/handler.py:run", model_file="x/model.py"))
    assert re.fullmatch(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", str(manifest.pop("createdOn")))
    assert json.dumps(manifest) == json.dumps(
        {
            "runtime": "python",
            "model": {
                "modelName": "m",
                "serializedFile": "w.pt",
                "handler": "handler.py:run",
                "modelFile": "model.py",
                "modelVersion": "1.0",
                "requirementsFile": "requirements.txt",
                "configFile": "conf.yaml",
            },
            "archiverVersion": "0.12.0",
        }
    )


def test_a_built_in_handler_is_only_named(tmp_path, sources):
    bare = ArchiverOptions("b", "image_classifier", "1", serialized_file="w.pt", export_path=tmp_path / "out")
    with zipfile.ZipFile(package_model(bare)) as archive:
        assert set(archive.namelist()) == {"w.pt", "MAR-INF/MANIFEST.json"}
        assert json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]["handler"] == "image_classifier"


@pytest.mark.parametrize("handler", ["handler", "handler:run", "handler.py", "handler.py:run"])
def test_handler_spellings(tmp_path, sources, handler):
    bare = ArchiverOptions("b", handler, "1", export_path=tmp_path / "out")
    with zipfile.ZipFile(package_model(bare)) as archive:
        assert "handler.py" in archive.namelist()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model_name": "a b"}, "name must match"),
        ({"model_name": "-a"}, "name must match"),
        ({"model_name": "a\n"}, "name must match"),
        ({"archive_format": "rar"}, "archive format"),
        ({"runtime": "java"}, "runtime"),
        ({"export_path": Path("/nowhere")}, "not a folder"),
        ({"handler": "gone.py"}, "gone.py: there is no such file"),
        ({"serialized_file": "gone.pt"}, "gone.pt"),
        ({"extra_files": "gone"}, "gone: there is no such file or folder"),
    ],
)
def test_wrong_options_are_named_and_nothing_is_written(tmp_path, sources, changes, text):
    with pytest.raises(ArchiveError, match=text):
        package_model(options(tmp_path, **changes))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_empty_pattern_is_only_warned_about(tmp_path, sources, caplog):
    package_model(options(tmp_path, extra_files="nothing*"))
    assert "nothing*" in caplog.text


def test_an_existing_archive_is_kept_unless_forced(tmp_path, sources):
    path = package_model(options(tmp_path))
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match="--force"):
        package_model(options(tmp_path, version="2.0"))
    assert path.read_bytes() == before
    package_model(options(tmp_path, version="2.0", force=True))
    assert open_archive(path, tmp_path / "s").version == "2.0"


def test_a_circle_of_links_is_refused(tmp_path, sources):
    (sources / "extra" / "sub" / "up").symlink_to("..")
    with pytest.raises(ArchiveError, match="folder it lies in"):
        package_model(options(tmp_path))


def test_a_failed_write_leaves_nothing(tmp_path, sources, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(ArchiveError, match="No space left"):
        package_model(options(tmp_path))
    assert list((tmp_path / "out").iterdir()) == []
