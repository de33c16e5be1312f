from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from predictor.archives.archive import find_archives, open_archive
from predictor.archives.errors import ArchiveError

MODEL = {"modelName": "mnist", "modelVersion": "2.0", "handler": "handler.py", "configFile": "conf.yaml"}
FILES = {"handler.py": "x = 1", "conf.yaml": "batchSize: 4"}


def manifest(**model: object) -> str:
    return json.dumps({"runtime": "python", "model": model})


def files(**model: object) -> dict[str, str]:
    return {**FILES, "MAR-INF/MANIFEST.json": manifest(**{**MODEL, **model})}


def folder_of(path: Path, content: dict[str, str]) -> Path:
    for name, text in content.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def mar_of(path: Path, content: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return path


def tgz_of(path: Path, content: dict[str, str], prefix: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in content.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


@pytest.mark.parametrize("kind", ["mar", "tar.gz", "tar.gz with a folder", "mar with a folder"])
def test_archives_of_every_shape_open_alike(tmp_path, kind):
    prefix = "anything/" if "folder" in kind else ""
    content = {prefix + name: text for name, text in files().items()}
    source = mar_of(tmp_path / "a.mar", content) if "mar" in kind else tgz_of(tmp_path / "a.tar.gz", content)
    archive = open_archive(source, tmp_path / "scratch")
    assert (archive.name, archive.version, archive.config.batch_size) == ("mnist", "2.0", 4)
    assert archive.source == source
    assert (archive.directory / "handler.py").read_text() == "x = 1"
    assert tmp_path / "scratch" in archive.directory.parents
    assert archive.problems() == ()


def test_a_folder_is_used_in_place_and_left_alone(tmp_path):
    folder = folder_of(tmp_path / "m", files())
    before = snapshot(tmp_path)
    archive = open_archive(folder, tmp_path / "scratch")
    assert archive.directory == folder
    assert snapshot(tmp_path) == before


def test_a_folder_in_a_folder_is_found(tmp_path):
    folder_of(tmp_path / "m" / "inner", files())
    assert open_archive(tmp_path / "m", tmp_path / "s").directory == tmp_path / "m" / "inner"


def test_a_folder_without_a_manifest_is_understood(tmp_path):
    folder_of(
        tmp_path / "m", {"handler.py": "", "model.py": "", "w.pt": "", "model-config.yaml": "minWorkers: 2"}
    )
    archive = open_archive(tmp_path / "m", tmp_path / "s")
    assert (archive.name, archive.version, archive.config.min_workers) == ("m", "1.0", 2)
    assert archive.manifest.raw["model"] == {
        "modelName": "m",
        "modelVersion": "1.0",
        "handler": "handler.py",
        "modelFile": "model.py",
        "configFile": "model-config.yaml",
        "serializedFile": "w.pt",
    }


def test_two_weight_files_are_not_guessed_between(tmp_path):
    folder_of(tmp_path / "m", {"handler.py": "", "a.pt": "", "b.pt": ""})
    assert open_archive(tmp_path / "m", tmp_path / "s").manifest.serialized_file is None


def test_names(tmp_path):
    source = mar_of(tmp_path / "file.name.mar", files(modelName=None))
    assert open_archive(source, tmp_path / "s").name == "file.name"
    assert open_archive(mar_of(tmp_path / "x.mar", files()), tmp_path / "s", name="given").name == "given"
    plain = tgz_of(tmp_path / "y.tar.gz", {"handler.py": ""}, "inner/")
    assert open_archive(plain, tmp_path / "s").name == "y"


def test_two_openings_do_not_meet(tmp_path):
    source = mar_of(tmp_path / "a.mar", files())
    first, second = (open_archive(source, tmp_path / "s") for _ in range(2))
    assert first.directory != second.directory


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "neither a zip|has no MAR-INF/MANIFEST.json"),
        ({"notes.txt": ""}, "has no MAR-INF/MANIFEST.json"),
        ({**FILES, "MAR-INF/MANIFEST.json": "{"}, "not valid JSON"),
        (files(handler="gone.py"), "'gone.py', but the archive does not contain it"),
        (files(handler="gone.py:run"), "gone.py"),
        (files(configFile="gone.yaml"), "gone.yaml"),
        ({**files(), "conf.yaml": "a: ["}, "not valid YAML"),
        ({**FILES, "MAR-INF/MANIFEST.json": json.dumps({"runtime": "LSP", "model": MODEL})}, r"C\+\+"),
    ],
)
def test_what_cannot_work_is_refused_and_cleaned_up(tmp_path, content, text):
    with pytest.raises(ArchiveError, match=text):
        open_archive(mar_of(tmp_path / "a.mar", content), tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    "handler", ["image_classifier", "image_classifier.py", "installed_module", "sub/handler.py"]
)
def test_handlers_that_may_live_elsewhere_are_not_refused(tmp_path, handler):
    open_archive(mar_of(tmp_path / "a.mar", files(handler=handler)), tmp_path / "s")


def test_missing_files_the_handler_may_do_without_are_reported(tmp_path):
    archive = open_archive(mar_of(tmp_path / "a.mar", files(serializedFile="w.pt")), tmp_path / "s")
    (problem,) = archive.problems()
    assert "'w.pt'" in problem
    assert "serializedFile" in problem


def test_what_is_not_there_is_said_to_be_not_there(tmp_path):
    with pytest.raises(ArchiveError, match="no such file or folder"):
        open_archive(tmp_path / "none.mar", tmp_path / "s")


def test_find_archives(tmp_path):
    mar_of(tmp_path / "b.mar", files())
    tgz_of(tmp_path / "c.tar.gz", files())
    folder_of(tmp_path / "a", files())
    folder_of(tmp_path / "d" / "inner", files())
    folder_of(tmp_path / "e", {"notes.txt": ""})
    folder_of(tmp_path / ".hidden", files())
    folder_of(tmp_path / "f", {"model-config.yaml": ""})
    (tmp_path / "readme.txt").write_text("")
    (tmp_path / "empty").mkdir()
    assert [path.name for path in find_archives(tmp_path)] == ["a", "b.mar", "c.tar.gz", "d", "f"]


def test_find_archives_needs_a_folder(tmp_path):
    with pytest.raises(ArchiveError, match="model store"):
        find_archives(tmp_path / "none")


def test_a_missing_store_is_told_in_full_with_its_flag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArchiveError, match=rf"^{tmp_path}/none: .*--model-store"):
        find_archives(Path("none"))


def test_the_package_needs_neither_torch_nor_kserve():
    code = (
        "import sys, predictor.archives.archive, predictor.archives.archiver_cli\n"
        "print(sorted({'torch', 'kserve', 'ts'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root) == "[]\n"


def test_a_folder_of_one_model_file_is_a_model(tmp_path):
    folder = tmp_path / "store" / "net"
    folder.mkdir(parents=True)
    (folder / "net.pt2").write_bytes(b"x")
    (folder / "README").write_text("")
    (folder / "examples").mkdir()
    assert find_archives(tmp_path / "store") == [folder]
    archive = open_archive(folder, tmp_path)
    assert (archive.name, archive.manifest.handler, archive.manifest.serialized_file) == (
        "net",
        "",
        "net.pt2",
    )
    (folder / "other.pt2").write_bytes(b"x")
    assert find_archives(tmp_path / "store") == []
