"""Opening a model: an archive file or a folder becomes one `ModelArchive`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from predictor.archives.errors import ArchiveError
from predictor.archives.gpux import GPUX_FILE, read_gpux
from predictor.archives.manifest import MANIFEST_PATH, Manifest, load_manifest, parse_manifest
from predictor.archives.model_config import ModelConfig, load_model_config
from predictor.archives.unpack import DEFAULT_LIMITS, UnpackLimits, unpack

ARCHIVE_SUFFIXES = (".mar", ".tar.gz", ".tgz")
CONFIG_FILE = "model-config.yaml"
HANDLER_FILE = "handler.py"
MODEL_FILE = "model.py"
WEIGHT_SUFFIXES = (".pt", ".pth", ".pt2", ".safetensors", ".onnx", ".so", ".bin")

NATIVE_HANDLER = "signature"
"""The handler of a model whose config declares its inputs and outputs; used where none is named."""

BUILTIN_HANDLERS = frozenset(
    {
        "base_handler",
        "dali_image_classifier",
        "densenet_handler",
        "image_classifier",
        "image_segmenter",
        "object_detector",
        "text_classifier",
        "trt_llm_handler",
        "vision_handler",
        "vllm_handler",
    }
)
"""Handlers an archive may name without containing them; they are modules of `ts.torch_handler`."""


@dataclass(frozen=True)
class ModelArchive:
    """A model ready to be loaded: `directory` is where its files are, `source` where it came from."""

    name: str
    version: str
    directory: Path
    source: Path
    manifest: Manifest
    config: ModelConfig

    def problems(self) -> tuple[str, ...]:
        """Return what looks wrong but does not stop the model from being tried, a sentence each."""
        found = list(self.config.problems)
        named = {
            "modelFile": self.manifest.model_file,
            "serializedFile": self.manifest.serialized_file,
            "requirementsFile": self.manifest.requirements_file,
        }
        for key, file in named.items():
            if file and not (self.directory / file).exists():
                found.append(f"the manifest names {file!r} as {key}, but there is no such file")
        return tuple(found)


def open_archive(
    source: Path, scratch: Path, *, name: str | None = None, limits: UnpackLimits = DEFAULT_LIMITS
) -> ModelArchive:
    """Open a .mar, a .tar.gz or a model folder.

    A folder is used where it is and never written to; a file is unpacked into a new folder below
    `scratch`, which belongs to the caller from then on. `name` overrides the manifest's model name, which
    in turn beats the file's name. Raises `ArchiveError`; nothing is left in `scratch` then.
    """
    if source.is_dir():
        return _read(source, _root(source), name)
    if not source.exists():
        raise ArchiveError(source, "there is no such file or folder")
    if not source.is_file():
        raise ArchiveError(source, "is neither a file nor a folder")
    folder = unpack(source, scratch, limits)
    try:
        return _read(source, _root(folder), name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def find_archives(store: Path) -> list[Path]:
    """Return the archives and model folders directly below `store`, sorted by name; hidden ones are skipped.

    Raises `ArchiveError` when `store` is not a readable folder.
    """
    try:
        entries = sorted(store.iterdir())
    except OSError as error:
        raise ArchiveError(
            store.absolute(), f"is not a readable model store: {error.strerror} (see --model-store)"
        ) from error
    return [entry for entry in entries if not entry.name.startswith(".") and _is_model(entry)]


def is_model_folder(folder: Path, *, nested: bool = True) -> bool:
    """Say whether `folder` looks like an unpacked model: a manifest, a config, a handler or a model file.

    A model file is `model.py`, or the only file of weights or a program beside no folder but `examples`.
    With `nested`, these may lie in its only subfolder.
    """
    root = _root(folder) if nested else folder
    named = (MANIFEST_PATH, CONFIG_FILE, HANDLER_FILE, MODEL_FILE, GPUX_FILE)
    return any((root / file).is_file() for file in named) or _is_lone_model_file(root)


def _is_lone_model_file(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    if any(entry.is_dir() and entry.name != "examples" for entry in entries):
        return False
    return sum(entry.name.endswith(WEIGHT_SUFFIXES) for entry in entries) == 1


def model_stem(source: Path) -> str:
    """Return the name a model gets from its file or folder: the last part without the archive suffix."""
    for suffix in ARCHIVE_SUFFIXES:
        if source.name.endswith(suffix) and not source.is_dir():
            return source.name[: -len(suffix)]
    return source.resolve().name


def _is_model(entry: Path) -> bool:
    if entry.is_dir():
        return is_model_folder(entry)
    return entry.is_file() and entry.name.endswith(ARCHIVE_SUFFIXES)


def _root(folder: Path) -> Path:
    """Step into a folder's only entry if that is a folder: `tar czf m.tar.gz mymodel` makes such archives."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise ArchiveError(folder, f"cannot be read: {error.strerror}") from error
    only = entries[0] if len(entries) == 1 else None
    return only if only is not None and only.is_dir() and only.name != "MAR-INF" else folder


def _read(source: Path, folder: Path, name: str | None) -> ModelArchive:
    manifest_file = folder / MANIFEST_PATH
    manifest = load_manifest(manifest_file, source) if manifest_file.exists() else _guess(source, folder)
    if manifest.runtime == "LSP":
        raise ArchiveError(source, "is for the C++ backend (runtime LSP); only Python handlers run here")
    _check_handler(source, folder, manifest)
    config = ModelConfig()
    if manifest.config_file:
        config = load_model_config(folder / manifest.config_file, source)
    if not manifest.handler and "signature" in config.raw:
        raw = {**manifest.raw, "model": {**manifest.raw["model"], "handler": NATIVE_HANDLER}}
        manifest = parse_manifest(raw, source)
    return ModelArchive(
        name=name or manifest.model_name or model_stem(source),
        version=manifest.model_version,
        directory=folder,
        source=source,
        manifest=manifest,
        config=config,
    )


def _guess(source: Path, folder: Path) -> Manifest:
    """Make up the manifest of a folder that has none, from the names torch-model-archiver's users give."""
    model = {"modelName": model_stem(source), "modelVersion": "1.0"}
    files = {"handler": HANDLER_FILE, "modelFile": MODEL_FILE, "configFile": CONFIG_FILE}
    model |= {key: file for key, file in files.items() if (folder / file).is_file()}
    weights = sorted(path.name for path in folder.iterdir() if path.name.endswith(WEIGHT_SUFFIXES))
    if len(weights) == 1:
        model["serializedFile"] = weights[0]
    if (folder / GPUX_FILE).is_file():
        gpux = read_gpux(folder)
        told = {"modelName": gpux.name, "modelVersion": gpux.version, "serializedFile": gpux.source}
        model |= {key: value for key, value in told.items() if value}
    if len(model) == 2:
        reason = (
            f"has no {MANIFEST_PATH}, and no {HANDLER_FILE}, {MODEL_FILE}, {CONFIG_FILE} or weights either"
        )
        raise ArchiveError(source, reason)
    return parse_manifest({"runtime": "python", "model": model}, source)


def _check_handler(source: Path, folder: Path, manifest: Manifest) -> None:
    """Refuse a handler file that is not there.

    A name without `.py` may be an installed module, so only the worker can tell whether that exists.
    """
    file = manifest.handler.partition(":")[0]
    module = file.rpartition("/")[2].removesuffix(".py")
    if not file.endswith(".py") or module in BUILTIN_HANDLERS:
        return
    if not any((folder / name).exists() for name in (f"{module}.py", f"{module}/__init__.py")):
        reason = f"the manifest names the handler {manifest.handler!r}, but the archive does not contain it"
        raise ArchiveError(source, reason, member=f"{module}.py")
