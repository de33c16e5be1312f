"""Snapshots of the configuration: what TorchServe writes after each change, and starts with the next time.

A snapshot is a `config.properties` with a `model_snapshot` of the models that are served and how. The
newest one is what `torchserve --start` configures the server by when it is given no file, unless `--ncs`.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictor import durable
from predictor.torchserve.properties import read_properties

if TYPE_CHECKING:  # the command only looks for a snapshot, and must start quickly
    from predictor.serving.model import ServedModel
    from predictor.serving.registry import Registry

logger = logging.getLogger(__name__)

SUFFIX = ".cfg"
_NAME = re.compile(r"[0-9]{17}-(startup|snapshot|shutdown)\.cfg")
# TorchServe keeps all of them; nobody goes back further than this.
_KEPT = 50


def snapshot_folder(environ: Mapping[str, str], directory: Path) -> Path:
    """Return where snapshots lie: `config` below LOG_LOCATION, which is `logs` by default."""
    return directory / environ.get("LOG_LOCATION", "logs") / "config"


def last_snapshot(folder: Path) -> Path | None:
    """Return the newest snapshot, None where there is none."""
    try:
        names = [entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name)]
    except OSError:
        return None
    return folder / max(names) if names else None


class SnapshotWriter:
    """Writes what is served into a folder, whenever it is told to, in a thread that waits for the disk."""

    def __init__(self, folder: Path, source: Path | None, store: Path) -> None:
        """Write into `folder`, which is made when it is missing.

        Args:
            folder: where snapshots lie.
            source: the properties file that the server was configured by; all it says is kept.
            store: the model store.

        Raises:
            SettingsError: `source` cannot be read.
        """
        self._folder = folder
        self._store = store
        self._base = {found.key: found.value for found in read_properties(source).values()} if source else {}
        self._gave_up = False
        # One, so that snapshots appear in the order of the changes.
        self._thread = ThreadPoolExecutor(1, "snapshots")

    def write(self, registry: Registry, kind: str) -> Future[None]:
        """Write a snapshot of `registry` as it is now; a folder that cannot be written to is reported once.

        Args:
            registry: the models that are served.
            kind: `startup`, `snapshot` or `shutdown`, a part of the file's name.

        Returns:
            What is done once the snapshot is on the disk, or the failure reported.
        """
        now = dt.datetime.now(tz=dt.timezone.utc)
        name = f"{now:%Y%m%d%H%M%S}{now.microsecond // 1000:03}-{kind}{SUFFIX}"
        values = {
            **{key: value for key, value in self._base.items() if key not in ("load_models", "models")},
            "model_store": str(self._store.resolve()),
            "model_snapshot": json.dumps(_describe(registry, name), separators=(",", ":")),
        }
        return self._thread.submit(self._put, name, render_properties(values))

    def _put(self, name: str, text: str) -> None:
        if self._gave_up:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _put(self._folder, name, text)
            self._prune()
        except OSError as error:
            self._gave_up = True
            logger.warning("no snapshots are written: %s: %s", self._folder, error.strerror or error)

    def _prune(self) -> None:
        names = sorted(entry.name for entry in self._folder.iterdir() if _NAME.fullmatch(entry.name))
        for name in names[:-_KEPT]:
            (self._folder / name).unlink(missing_ok=True)


def render_properties(values: Mapping[str, str]) -> str:
    """Return the text of a properties file that is read back as `values`."""
    return "".join(f"{_escape(key, ' =:#!')}={_escape(value)}\n" for key, value in values.items())


def _describe(registry: Registry, name: str) -> dict[str, Any]:
    models: dict[str, dict[str, Any]] = {}
    for model in registry.models():
        models.setdefault(model.name, {})[model.version] = _numbers(model, registry.is_default(model))
    return {"name": name, "modelCount": len(models), "created": int(time.time() * 1000), "models": models}


def _numbers(model: ServedModel, is_default: bool) -> dict[str, Any]:
    policy = model.policy
    return {
        "defaultVersion": is_default,
        "marName": model.archive.source.name,
        "minWorkers": policy.min_workers,
        "maxWorkers": policy.max_workers,
        "batchSize": policy.batch_size,
        "maxBatchDelay": round(policy.max_batch_delay * 1000),
        "responseTimeout": round(policy.response_timeout),
        "startupTimeout": round(policy.startup_timeout),
    }


def _escape(text: str, also: str = "") -> str:
    """Escape what would end a key or a line, leading blanks, and all beyond ASCII, as Java does."""
    plain = text.lstrip(" \t\f")
    pieces = ["\\" + blank for blank in text[: len(text) - len(plain)]]
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}
    for character in plain:
        if character in named:
            pieces.append(named[character])
        elif character in also:
            pieces.append("\\" + character)
        elif " " <= character <= "~":
            pieces.append(character)
        else:
            halves = character.encode("utf-16-be", "surrogatepass")
            pieces += [f"\\u{halves[at]:02x}{halves[at + 1]:02x}" for at in range(0, len(halves), 2)]
    return "".join(pieces)


def _put(folder: Path, name: str, text: str) -> None:
    """Write a file that appears whole or not at all, for its owner's eyes: it may hold a password."""
    descriptor, partial = tempfile.mkstemp(prefix=".", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        durable.put(Path(partial), folder / name)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
