from __future__ import annotations

import pytest

from predictor.archives.archive import find_archives, open_archive
from predictor.archives.errors import ArchiveError
from predictor.archives.gpux import read_gpux

FILE = """
name: sentiment
version: 1.2.0
description: Tells moods.
model: {source: ./net.onnx, format: onnx}
inputs:
  - {name: ids, type: int64, shape: [1, 128], description: words}
  - {name: mask, type: float32, shape: [null, -1], required: false}
  - {name: text, type: string, max_length: 512}
  - {name: any, type: float32}
outputs:
  mood: {type: float32, shape: [1, 2], labels: [bad, good]}
"""


def test_names_files_and_signature(tmp_path):
    (tmp_path / "gpux.yml").write_text(FILE)
    gpux = read_gpux(tmp_path)
    assert (gpux.name, gpux.version, gpux.source) == ("sentiment", "1.2.0", "net.onnx")
    plain = {"required": True, "description": ""}
    assert gpux.signature == {
        "description": "Tells moods.",
        "inputs": [
            {"name": "ids", "dtype": "int64", "shape": [128], "required": True, "description": "words"},
            {"name": "mask", "dtype": "float32", "shape": [-1], "required": False, "description": ""},
            {"name": "text", "dtype": "string", "kind": "text", **plain},
            {"name": "any", "dtype": "float32", "ranked": False, **plain},
        ],
        "outputs": [
            {
                "name": "mood",
                "dtype": "float32",
                "shape": [2],
                "required": True,
                "description": "labels: bad, good",
            }
        ],
    }


def test_a_folder_with_it_is_a_model(tmp_path):
    folder = tmp_path / "store" / "m"
    folder.mkdir(parents=True)
    (folder / "gpux.yml").write_text(FILE)
    (folder / "net.onnx").write_bytes(b"")
    (folder / "other.onnx").write_bytes(b"")
    assert find_archives(tmp_path / "store") == [folder]
    archive = open_archive(folder, tmp_path)
    assert (archive.name, archive.version) == ("sentiment", "1.2.0")
    assert (archive.manifest.handler, archive.manifest.serialized_file) == ("", "net.onnx")


@pytest.mark.parametrize(
    "text", ["- 1", "inputs: 3", "inputs: [1]", "inputs: {x: 1}", "inputs: [{type: a}]", "{"]
)
def test_files_of_another_form(tmp_path, text):
    (tmp_path / "gpux.yml").write_text(text)
    with pytest.raises(ArchiveError, match=r"gpux\.yml"):
        read_gpux(tmp_path)
