"""The manifest of an archive, `MAR-INF/MANIFEST.json`: which file of it is what.

The keys are torch-model-archiver's; older files carry more of them (`modelServerVersion`,
`specificationVersion`, ...), which are kept in `raw` and otherwise ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from predictor.archives.errors import ArchiveError

MANIFEST_PATH = "MAR-INF/MANIFEST.json"

RUNTIMES = ("python", "python3", "LSP")
"""What TorchServe accepts as `runtime`; LSP means a C++ handler."""

MAX_MANIFEST_BYTES = 1 << 20
"""A manifest is a dozen short lines; a megabyte of it is an attack or an accident."""


@dataclass(frozen=True)
class Manifest:
    """A checked manifest. `model_name` and `handler` are "" when the file does not name them.

    `raw` is the whole file as it was read, and is what a handler sees as `context.manifest`.
    """

    model_name: str = ""
    model_version: str = "1.0"
    handler: str = ""
    model_file: str | None = None
    serialized_file: str | None = None
    requirements_file: str | None = None
    config_file: str | None = None
    envelope: str | None = None
    extensions: Any = None
    runtime: str = "python"
    raw: dict[str, Any] = field(default_factory=dict)


def parse_manifest(raw: Mapping[str, Any], source: str | os.PathLike[str] = "manifest") -> Manifest:
    """Check a parsed MANIFEST.json.

    Raises `ArchiveError` naming the key: `model` missing or not an object, a value of the wrong type, an
    unknown runtime, a file name that is absolute or leads out of the folder. Numbers are accepted for
    `modelName` and `modelVersion`, as TorchServe does.
    """
    if not isinstance(raw, Mapping):
        raise ArchiveError(source, f"must be a JSON object, not {_kind(raw)}", member=MANIFEST_PATH)
    model = raw.get("model")
    if not isinstance(model, Mapping):
        problem = (
            'has no "model" entry' if model is None else f'"model" must be an object, not {_kind(model)}'
        )
        raise ArchiveError(source, problem, member=MANIFEST_PATH)
    reader = _Reader(source, model)
    return Manifest(
        model_name=reader.text("modelName", numbers=True) or "",
        model_version=reader.text("modelVersion", numbers=True) or "1.0",
        handler=reader.text("handler") or "",
        model_file=reader.file("modelFile"),
        serialized_file=reader.file("serializedFile"),
        requirements_file=reader.file("requirementsFile"),
        config_file=reader.file("configFile"),
        envelope=reader.text("envelope"),
        extensions=model.get("extensions"),
        runtime=_runtime(raw, source),
        raw=dict(raw),
    )


def load_manifest(path: Path, source: str | os.PathLike[str]) -> Manifest:
    """Read and check the manifest file `path`, part of the archive `source`.

    Raises `ArchiveError` as `parse_manifest` does, and for a file that is too large, not UTF-8 or not JSON.
    """
    return parse_manifest(read_json(path, source), source)


def read_json(path: Path, source: str | os.PathLike[str]) -> Any:
    """Read the JSON file `path`; raises `ArchiveError` for anything that is not one."""
    text = read_text(path, source, MANIFEST_PATH, MAX_MANIFEST_BYTES)
    try:
        return json.loads(text)
    except ValueError as error:
        raise ArchiveError(source, f"is not valid JSON: {error}", member=MANIFEST_PATH) from error
    except RecursionError as error:
        raise ArchiveError(source, "is nested too deeply", member=MANIFEST_PATH) from error


def read_text(path: Path, source: str | os.PathLike[str], member: str, limit: int) -> str:
    """Read a UTF-8 file (with or without a byte order mark) of at most `limit` bytes."""
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise ArchiveError(source, f"cannot be read: {error.strerror}", member=member) from error
    if len(data) > limit:
        raise ArchiveError(source, f"is larger than {limit} bytes", member=member)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArchiveError(source, f"is not UTF-8: {error}", member=member) from error


@dataclass(frozen=True)
class _Reader:
    """Reads typed values out of the manifest's `model` object."""

    source: str | os.PathLike[str]
    model: Mapping[str, Any]

    def text(self, key: str, *, numbers: bool = False) -> str | None:
        value = self.model.get(key)
        if value is None:
            return None
        if numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self._error(key, f"must be a string, not {_kind(value)}")
        if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise self._error(key, "contains a NUL or a character that is not Unicode")
        return value

    def file(self, key: str) -> str | None:
        value = self.text(key)
        if not value:
            return None
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts:
            raise self._error(key, f"{value!r} must be a path inside the archive")
        return value

    def _error(self, key: str, problem: str) -> ArchiveError:
        return ArchiveError(self.source, f'"model.{key}" {problem}', member=MANIFEST_PATH)


def _runtime(raw: Mapping[str, Any], source: str | os.PathLike[str]) -> str:
    runtime = raw.get("runtime")
    if runtime is None:
        return "python"
    if not isinstance(runtime, str) or runtime not in RUNTIMES:
        reason = f'"runtime" must be one of {", ".join(RUNTIMES)}, not {runtime!r}'
        raise ArchiveError(source, reason, member=MANIFEST_PATH)
    return runtime


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else type(value).__name__)
