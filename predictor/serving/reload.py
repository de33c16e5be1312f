"""Bringing the served models up to date with the model store, without losing a request.

A new or changed model is started beside the old one and takes its place once it is ready; the old one
then finishes what it has accepted. One that cannot be loaded leaves the old one in service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from predictor.archives.archive import ModelArchive
from predictor.serving.model import ServedModel
from predictor.serving.registry import Registry

logger = logging.getLogger(__name__)

MakeModel = Callable[[ModelArchive], ServedModel]
Fingerprint = tuple[tuple[str, int, int], ...]


def fingerprint(source: Path) -> Fingerprint:
    """Return what changes when an archive or a model folder is written to: names, sizes, times."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


async def reload(
    registry: Registry, archives: Sequence[ModelArchive], make: MakeModel, known: dict[Path, Fingerprint]
) -> None:
    """Serve exactly `archives`, replacing only what has changed.

    Args:
        registry: what is served now.
        archives: what the store holds now.
        make: turns an archive into a model that is not started yet.
        known: fingerprints of the sources being served; brought up to date.
    """
    current = {(model.name, model.version): model for model in registry.models()}
    wanted = {(archive.name, archive.version): archive for archive in archives}
    prints = {archive.source: fingerprint(archive.source) for archive in archives}
    changed = [
        archive
        for key, archive in wanted.items()
        if key not in current or known.get(archive.source) != prints[archive.source]
    ]
    await asyncio.gather(*(_replace(registry, make(archive)) for archive in changed))
    gone = [model for key, model in current.items() if key not in wanted]
    for model in gone:
        registry.remove(model)
        logger.info("model %s %s: no longer served", model.name, model.version)
    await asyncio.gather(*(model.stop() for model in gone))
    known.clear()
    known.update(prints)


async def _replace(registry: Registry, model: ServedModel) -> None:
    await model.start()
    await model.settled()
    if not model.ready:
        logger.error("model %s %s: not replaced: %s", model.name, model.version, model.failure)
        await model.stop()
        return
    old = registry.add(model)
    if old is not None:
        await old.stop()
    logger.info("model %s %s: %s", model.name, model.version, "replaced" if old else "added")
