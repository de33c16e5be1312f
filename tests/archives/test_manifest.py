from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.archives.errors import ArchiveError
from predictor.archives.manifest import MAX_MANIFEST_BYTES, load_manifest, parse_manifest

FULL = {
    "createdOn": "21/11/2024 10:00:00",
    "runtime": "python3",
    "model": {
        "modelName": "mnist",
        "serializedFile": "mnist.pt",
        "handler": "handler.py:run",
        "modelFile": "mnist.py",
        "modelVersion": "2.0",
        "requirementsFile": "requirements.txt",
        "configFile": "model-config.yaml",
        "envelope": "json",
        "extensions": {"a": 1},
    },
    "archiverVersion": "0.12.0",
    "specificationVersion": "1.0",
}


def test_every_key_is_read():
    manifest = parse_manifest(FULL)
    assert manifest.model_name == "mnist"
    assert manifest.model_version == "2.0"
    assert manifest.handler == "handler.py:run"
    assert manifest.model_file == "mnist.py"
    assert manifest.serialized_file == "mnist.pt"
    assert manifest.requirements_file == "requirements.txt"
    assert manifest.config_file == "model-config.yaml"
    assert manifest.envelope == "json"
    assert manifest.extensions == {"a": 1}
    assert manifest.runtime == "python3"
    assert manifest.raw == FULL


def test_defaults():
    manifest = parse_manifest({"model": {}})
    assert (manifest.model_name, manifest.model_version, manifest.handler) == ("", "1.0", "")
    assert (manifest.runtime, manifest.model_file, manifest.config_file) == ("python", None, None)


def test_numbers_are_taken_for_name_and_version():
    manifest = parse_manifest({"model": {"modelName": 7, "modelVersion": 1.5}})
    assert (manifest.model_name, manifest.model_version) == ("7", "1.5")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ([], "must be a JSON object, not a list"),
        ({}, 'no "model" entry'),
        ({"model": "x"}, '"model" must be an object, not a string'),
        ({"model": {"handler": 3}}, '"model.handler" must be a string, not a number'),
        ({"model": {"modelName": True}}, '"model.modelName" must be a string, not a boolean'),
        ({"model": {"modelName": {}}}, '"model.modelName" must be a string, not an object'),
        ({"model": {"serializedFile": "../../etc/passwd"}}, '"model.serializedFile"'),
        ({"model": {"modelFile": "/etc/passwd"}}, '"model.modelFile"'),
        ({"model": {"configFile": "a/../../b"}}, "inside the archive"),
        ({"model": {"handler": "a\0b"}}, "NUL"),
        ({"model": {"handler": "\ud800"}}, "Unicode"),
        ({"model": {}, "runtime": "java"}, "runtime"),
        ({"model": {}, "runtime": 3}, "runtime"),
    ],
)
def test_wrong_content_is_named(raw, text):
    with pytest.raises(ArchiveError) as caught:
        parse_manifest(raw, "a.mar")
    assert text in str(caught.value)
    assert caught.value.source == "a.mar"
    assert caught.value.member == "MAR-INF/MANIFEST.json"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[" * 200_000, "not valid JSON|nested too deeply"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "larger than"),
    ],
)
def test_broken_files_are_named(tmp_path, data, text):
    (tmp_path / "m.json").write_bytes(data)
    with pytest.raises(ArchiveError, match=text):
        load_manifest(tmp_path / "m.json", "a.mar")


def test_a_byte_order_mark_is_no_error(tmp_path):
    (tmp_path / "m.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(FULL).encode())
    assert load_manifest(tmp_path / "m.json", "a").model_name == "mnist"


def test_a_missing_file_is_an_archive_error(tmp_path):
    with pytest.raises(ArchiveError, match="cannot be read"):
        load_manifest(tmp_path / "none", "a")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from([*FULL["model"], "other"])


@given(st.fixed_dictionaries({"model": st.dictionaries(KEYS, JSON)}, optional={"runtime": JSON}) | JSON)
def test_anything_is_parsed_or_refused(raw):
    try:
        manifest = parse_manifest(raw)
    except ArchiveError:
        return
    for file in (manifest.model_file, manifest.serialized_file, manifest.config_file):
        assert file is None or (not file.startswith("/") and ".." not in file.split("/"))
