"""The examples that ship in a model's folder, as the web page offers them.

Whatever lies in `examples/` and is a picture, JSON or text can be seen by everyone who can reach the
server; nothing outside that folder can.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from predictor.web.assets import PICTURE_SUFFIXES, Asset, make_asset

_FOLDER = "examples"
# A page offers a handful of examples, not a data set.
_MAX_EXAMPLES = 12
_MAX_VALUE_BYTES = 64 * 1024
_MAX_PICTURE_BYTES = 4 * 1024 * 1024


def list_examples(directory: Path) -> list[dict[str, Any]]:
    """Return the examples of the model in `directory`, sorted by file name, the first dozen.

    Each has `name` and `kind`: "image" (fetch it with `read_picture`), or "json" or "text" with the
    `value` itself. Files of other kinds, unreadable ones and large ones are left out.
    """
    folder = directory / _FOLDER
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    found = (_example(folder, name) for name in names)
    return [example for example in found if example is not None][:_MAX_EXAMPLES]


def read_picture(directory: Path, name: str) -> Asset | None:
    """Return the example picture `name` of the model in `directory`, None if there is none of this name."""
    data = _read(directory / _FOLDER, name, _MAX_PICTURE_BYTES) if is_picture(name) else None
    return None if data is None else make_asset(name, data)


def is_picture(name: str) -> bool:
    """Tell by its suffix whether a file is a picture that may be shown."""
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


def _example(folder: Path, name: str) -> dict[str, Any] | None:
    if is_picture(name):
        return {"name": name, "kind": "image"}
    kind = {".json": "json", ".txt": "text"}.get(Path(name).suffix.lower())
    data = _read(folder, name, _MAX_VALUE_BYTES) if kind else None
    if data is None:
        return None
    try:
        value = orjson.loads(data) if kind == "json" else data.decode("utf-8").strip()
    except ValueError:
        return None
    return {"name": name, "kind": kind, "value": value}


def _read(folder: Path, name: str, limit: int) -> bytes | None:
    """Return a regular file that really lies in `folder`, whatever dots and links `name` is made of."""
    path = folder / name
    try:
        resolved = path.resolve(strict=True)
        if resolved.parent != folder.resolve() or not resolved.is_file() or resolved.stat().st_size > limit:
            return None
        return resolved.read_bytes()
    except (OSError, ValueError):
        return None
