"""Bringing the served models up to date with the model store, without losing a request.

A new or changed model is started beside the old one and takes its place once it is ready; the old one
then finishes what it has accepted. What cannot be opened or loaded leaves the old one in service, and a
store that cannot be read changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from predictor.archives.archive import ModelArchive
from predictor.archives.errors import ArchiveError
from predictor.serving.model import ServedModel
from predictor.serving.registry import Registry
from predictor.serving.store import ModelStore

logger = logging.getLogger(__name__)

Fingerprint = tuple[tuple[str, int, int], ...]


def fingerprint(source: Path) -> Fingerprint:
    """Return what changes when an archive or a model folder is written to: names, sizes, times.

    Raises:
        OSError: a file went away, or cannot be looked at.
    """
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


class Reloader:
    """Compares the model store with what is served, whenever it is asked to."""

    def __init__(self, registry: Registry, store: ModelStore) -> None:
        """Keep `registry` in line with `store`; what it holds now is taken for up to date."""
        self._registry = registry
        self._store = store
        self._known = {model.archive.source: fingerprint(model.archive.source) for model in registry.models()}

    async def run(self) -> None:
        """Serve what the store holds now, replacing only what has changed."""
        try:
            prints = await asyncio.to_thread(self._look)
        except (ArchiveError, OSError) as error:
            logger.error("nothing is changed, because the model store cannot be read: %s", error)
            return
        changed = [source for source, found in prints.items() if self._known.get(source) != found]
        opened = await asyncio.to_thread(self._store.open, changed)
        for problem in opened.problems:
            logger.error(problem)
        done = await asyncio.gather(*(self._replace(archive) for archive in opened.archives))
        renewed = {
            archive.source: archive for archive, good in zip(opened.archives, done, strict=True) if good
        }
        self._known.update({source: prints[source] for source in renewed})
        await asyncio.gather(*(self._remove(model) for model in self._gone(prints, renewed)))

    def _look(self) -> dict[Path, Fingerprint]:
        return {source: fingerprint(source) for source in self._store.sources()}

    def _gone(self, prints: dict[Path, Fingerprint], renewed: dict[Path, ModelArchive]) -> list[ServedModel]:
        """Return the models whose source is not there any more, or now holds another name or version."""

        def is_gone(model: ServedModel) -> bool:
            archive = renewed.get(model.archive.source, model.archive)
            renamed = (archive.name, archive.version) != (model.name, model.version)
            return model.archive.source not in prints or renamed

        return [model for model in self._registry.models() if is_gone(model)]

    async def _replace(self, archive: ModelArchive) -> bool:
        """Put a new model in the place of the old one; returns whether it is served now."""
        try:
            model = self._store.make(archive)
        except ValueError as error:
            logger.error("model %s %s is not served: %s", archive.name, archive.version, error)
            return False
        await model.start()
        await model.settled()
        if not model.ready and model.policy.min_workers:
            logger.error("model %s %s is not replaced: %s", model.name, model.version, model.failure)
            await self._end(model)
            return False
        old = self._registry.add(model)
        if old is not None:
            await self._end(old)
        logger.info("model %s %s: %s", model.name, model.version, "replaced" if old else "added")
        return True

    async def _remove(self, model: ServedModel) -> None:
        self._registry.remove(model)
        self._known.pop(model.archive.source, None)
        logger.info("model %s %s: no longer served", model.name, model.version)
        await self._end(model)

    async def _end(self, model: ServedModel) -> None:
        """Stop a model, and remove what was unpacked for it."""
        await model.stop()
        scratch, folder = self._store.scratch.resolve(), model.archive.directory.resolve()
        if scratch in folder.parents:
            unpacked = scratch / folder.relative_to(scratch).parts[0]
            await asyncio.to_thread(shutil.rmtree, unpacked, ignore_errors=True)
