"""Writing archives with torch-model-archiver's options, checks and layout.

The members and the manifest's keys are those torch-model-archiver 0.12 writes, so that its users' scripts
get the archive they are used to. Members are sorted, and the file appears under its name only when it is
complete.
"""

from __future__ import annotations

import glob
import io
import json
import logging
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from predictor.archives.errors import ArchiveError
from predictor.archives.manifest import MANIFEST_PATH

logger = logging.getLogger(__name__)

ARCHIVER_VERSION = "0.12.0"
"""The torch-model-archiver whose format this is; readers look at nothing else than that it is there."""

FORMATS = {"tgz": ".tar.gz", "no-archive": "", "zip-store": ".mar", "default": ".mar"}
RUNTIMES = ("python", "python3", "LSP")
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")

BUILTIN_HANDLERS = {
    "python": (
        "base_handler",
        "text_classifier",
        "image_classifier",
        "object_detector",
        "image_segmenter",
        "dali_image_classifier",
        "vllm_handler",
        "trt_llm_handler",
        "signature",
    ),
    "LSP": ("BaseHandler", "TorchScriptHandler"),
}
"""Handlers that are named only; any other handler is a file and becomes a member."""

SKIPPED_FOLDERS = ("__MACOSX", "__pycache__")


@dataclass(frozen=True)
class ArchiverOptions:
    """What torch-model-archiver is told, under its names.

    `handler` is a built-in one's name or a file, optionally `file:function`. `extra_files` is a
    comma-separated list of files, folders (whose content is taken, not they themselves) and patterns.
    """

    model_name: str
    handler: str
    version: str
    serialized_file: str | None = None
    model_file: str | None = None
    extra_files: str | None = None
    runtime: str = "python"
    export_path: Path = field(default_factory=Path.cwd)
    archive_format: str = "default"
    force: bool = False
    requirements_file: str | None = None
    config_file: str | None = None


def package_model(options: ArchiverOptions) -> Path:
    """Write the archive and return its path (a folder's for the format no-archive).

    Raises `ArchiveError` for a wrong name, format or runtime, an export path that is no folder, a file that
    does not exist, or an archive that does (without `force`).
    """
    _check(options)
    target = options.export_path / (options.model_name + FORMATS[options.archive_format])
    if target.exists():
        if not options.force:
            raise ArchiveError(target, "already exists; use --force (-f) to overwrite it")
        logger.warning("overwriting %s", target)
    members = dict(sorted(_collect(options).items()))
    manifest = json.dumps(build_manifest(options), indent=2).encode()
    try:
        _write(options, target, members, manifest)
    except OSError as error:
        raise ArchiveError(target, f"cannot be written: {error.strerror or error}") from error
    return target


def build_manifest(options: ArchiverOptions) -> dict[str, object]:
    """Return the content of MANIFEST.json; files appear under their last name, empty values not at all."""
    model = {
        "modelName": options.model_name,
        "serializedFile": _last(options.serialized_file),
        "handler": _last(options.handler),
        "modelFile": _last(options.model_file),
        "modelVersion": options.version,
        "requirementsFile": _last(options.requirements_file),
        "configFile": _last(options.config_file),
    }
    return {
        "createdOn": datetime.now().astimezone().strftime("%d/%m/%Y %H:%M:%S"),
        "runtime": options.runtime,
        "model": {key: value for key, value in model.items() if value},
        "archiverVersion": ARCHIVER_VERSION,
    }


def _check(options: ArchiverOptions) -> None:
    name = options.model_name
    if not NAME_PATTERN.fullmatch(name):
        raise ArchiveError(name, f"a model's name must match ^{NAME_PATTERN.pattern}$")
    if options.archive_format not in FORMATS:
        raise ArchiveError(name, f"the archive format must be one of {', '.join(FORMATS)}")
    if options.runtime not in RUNTIMES:
        raise ArchiveError(name, f"the runtime must be one of {', '.join(RUNTIMES)}")
    if not options.export_path.is_dir():
        raise ArchiveError(options.export_path, "the export path is not a folder")


def _last(path: str | None) -> str | None:
    return path and path.rsplit("/", 1)[-1]


# --- what goes in ----------------------------------------------------------------------------------------


def _collect(options: ArchiverOptions) -> dict[str, Path]:
    """Return member names and the files behind them; a later source of the same name wins, as it did."""
    members: dict[str, Path] = {}
    for path in (options.model_file, options.serialized_file, _handler_file(options)):
        _add_file(members, path)
    for pattern in (options.extra_files or "").split(","):
        if pattern.strip():
            _add_extra(members, pattern.strip())
    for path in (options.requirements_file, options.config_file):
        _add_file(members, path)
    return members


def _handler_file(options: ArchiverOptions) -> str | None:
    lsp = options.runtime == "LSP"
    if options.handler in BUILTIN_HANDLERS["LSP" if lsp else "python"]:
        return None
    path = options.handler.split(":")[0]
    if lsp:
        return f"{path}.so"
    return path if path.endswith(".py") else f"{path}.py"


def _add_file(members: dict[str, Path], path: str | None) -> None:
    if not path:
        return
    if not Path(path).is_file():
        raise ArchiveError(path, "there is no such file")
    _put(members, Path(path).name, Path(path))


def _add_extra(members: dict[str, Path], pattern: str) -> None:
    wildcard = any(sign in pattern for sign in "*?[")
    found = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern))  # noqa: PTH207 - may be absolute
    if not found:
        if not wildcard:
            raise ArchiveError(pattern, "there is no such file or folder")
        logger.warning("no file matches the pattern %s", pattern)
    for path in map(Path, found):
        if path.is_dir():
            for name, file in _walk(path, ()):
                _put(members, name, file)
        else:
            _add_file(members, str(path))


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Yield `(name below folder, file)`; links are followed, but not in circles."""
    place = folder.resolve()
    if place in above:
        raise ArchiveError(folder, "is a link to a folder it lies in")
    for entry in sorted(folder.iterdir()):
        if entry.is_file():
            yield entry.name, entry
        elif entry.is_dir() and entry.name not in SKIPPED_FOLDERS and not entry.name.startswith("."):
            for name, file in _walk(entry, (*above, place)):
                yield f"{entry.name}/{name}", file


def _put(members: dict[str, Path], name: str, path: Path) -> None:
    if name in members and members[name].resolve() != path.resolve():
        logger.warning("%s: %s replaces %s", name, path, members[name])
    members[name] = path


# --- how it is written -----------------------------------------------------------------------------------


def _write(options: ArchiverOptions, target: Path, members: Mapping[str, Path], manifest: bytes) -> None:
    if options.archive_format == "no-archive":
        _write_folder(target, members, manifest)
    elif options.archive_format == "tgz":
        _replace(target, lambda path: _write_tar(path, options.model_name, members, manifest))
    else:
        method = zipfile.ZIP_STORED if options.archive_format == "zip-store" else zipfile.ZIP_DEFLATED
        _replace(target, lambda path: _write_zip(path, method, members, manifest))


def _replace(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make the file under a temporary name beside `target` and then put it in its place."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _write_zip(path: Path, method: int, members: Mapping[str, Path], manifest: bytes) -> None:
    with zipfile.ZipFile(path, "w", method, strict_timestamps=False) as archive:
        for name, file in members.items():
            archive.write(file, name)
        archive.writestr(MANIFEST_PATH, manifest)


def _write_tar(path: Path, model_name: str, members: Mapping[str, Path], manifest: bytes) -> None:
    # Without dereference two names of one file would become a link, which not every reader takes.
    with tarfile.open(path, "w:gz", dereference=True) as archive:
        for name, file in members.items():
            archive.add(file, f"{model_name}/{name}", recursive=False)
        info = tarfile.TarInfo(f"{model_name}/{MANIFEST_PATH}")
        info.size = len(manifest)
        archive.addfile(info, io.BytesIO(manifest))


def _write_folder(folder: Path, members: Mapping[str, Path], manifest: bytes) -> None:
    for name, file in members.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or not target.samefile(file):
            shutil.copy(file, target)
    path = folder / MANIFEST_PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(manifest)
