"""`gpux.yml`: what a model of GPUX says of its name, file, inputs and outputs, as a signature of ours.

Its shapes hold the batch axis, ours do not. `preprocessing` is passed on as it is, `runtime` is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from predictor.archives.errors import ArchiveError

GPUX_FILE = "gpux.yml"

# Keys of `preprocessing` that say that the model takes pictures, and their possible channels.
_OF_PICTURES = ("resize", "normalize", "custom")
_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Gpux:
    """The parts of the file that are used.

    Attributes:
        name: of the model, "" if it does not say.
        version: likewise.
        source: the model's file, relative to the folder, "" if it does not say.
        signature: as the `signature:` section of model-config.yaml.
    """

    name: str
    version: str
    source: str
    signature: dict[str, Any]


def read_gpux(folder: Path) -> Gpux:
    """Read the file in `folder`.

    Raises `ArchiveError` when it is not YAML of this form.
    """
    file = folder / GPUX_FILE
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ArchiveError(folder, f"cannot be read: {error}", member=GPUX_FILE) from error
    if not isinstance(content, Mapping):
        raise ArchiveError(folder, "is not a mapping", member=GPUX_FILE)
    model = content.get("model")
    source = str(model.get("source", "")) if isinstance(model, Mapping) else ""
    signature: dict[str, Any] = {"description": str(content.get("description", ""))}
    for key in ("inputs", "outputs"):
        entries = _entries(content.get(key), folder)
        if entries:
            signature[key] = entries
    preprocessing = content.get("preprocessing")
    if preprocessing is not None:
        signature["preprocessing"] = preprocessing
        if isinstance(preprocessing, Mapping) and not preprocessing.keys().isdisjoint(_OF_PICTURES):
            signature["inputs"] = [_as_picture(entry) for entry in signature.get("inputs", [])]
    return Gpux(
        str(content.get("name", "")),
        str(content.get("version", "")),
        source.removeprefix("./"),
        signature,
    )


def _entries(section: Any, folder: Path) -> list[dict[str, Any]]:
    """Return inputs or outputs, which the file holds as a list with names or as a mapping by name."""
    if section is None:
        return []
    if isinstance(section, Mapping):
        section = [
            {**spec, "name": name} if isinstance(spec, Mapping) else spec for name, spec in section.items()
        ]
    if not isinstance(section, list) or not all(
        isinstance(spec, Mapping) and "name" in spec for spec in section
    ):
        raise ArchiveError(folder, "inputs and outputs must be named mappings", member=GPUX_FILE)
    return [_entry(spec) for spec in section]


def _entry(spec: Mapping[str, Any]) -> dict[str, Any]:
    dtype = str(spec.get("type", "float32"))
    entry: dict[str, Any] = {
        "name": str(spec["name"]),
        "dtype": dtype,
        "required": spec.get("required") is not False,
        "description": _description(spec),
    }
    if dtype in ("string", "text"):
        return {**entry, "dtype": "string", "kind": "text"}
    shape = spec.get("shape")
    if isinstance(shape, list) and shape:
        return {**entry, "shape": [size if isinstance(size, int) and size > 0 else -1 for size in shape[1:]]}
    return {**entry, "ranked": False}


def _as_picture(entry: dict[str, Any]) -> dict[str, Any]:
    """Let an input of channels, height and width be sent as a picture, too."""
    shape = entry.get("shape", [])
    return {**entry, "kind": "image"} if len(shape) == 3 and shape[0] in _CHANNELS else entry


def _description(spec: Mapping[str, Any]) -> str:
    labels = spec.get("labels")
    named = f"labels: {', '.join(map(str, labels))}" if isinstance(labels, list) and labels else ""
    return "; ".join(part for part in (str(spec.get("description") or ""), named) if part)
