"""Bringing the served models up to date with the model store, without losing a request.

What has changed is replaced, what is gone is removed; what cannot be opened or loaded leaves the old one
in service, and a store that cannot be read changes nothing. Models that clients have added stay.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from predictor.archives.archive import ModelArchive
from predictor.archives.errors import ArchiveError
from predictor.errors import PredictorError
from predictor.serving.fingerprint import Fingerprint, fingerprint
from predictor.serving.manager import ModelManager
from predictor.serving.model import ServedModel
from predictor.serving.store import ModelStore

logger = logging.getLogger(__name__)


class Reloader:
    """Compares the model store with what is served, whenever it is asked to."""

    def __init__(self, manager: ModelManager, store: ModelStore) -> None:
        """Keep what `manager` serves in line with `store`."""
        self._manager = manager
        self._store = store

    async def run(self) -> None:
        """Serve what the store holds now, replacing only what has changed."""
        try:
            prints = await asyncio.to_thread(self._look)
        except (ArchiveError, OSError) as error:
            logger.error("nothing is changed, because the model store cannot be read: %s", error)
            return
        known = self._manager.known
        changed = [source for source, found in prints.items() if known.get(source) != found]
        opened = await asyncio.to_thread(self._store.open, changed)
        for problem in opened.problems:
            logger.error(problem)
        done = await asyncio.gather(*(self._replace(archive) for archive in opened.archives))
        replaced = list(zip(opened.archives, done, strict=True))
        known.update({archive.source: prints[archive.source] for archive, _ in replaced})
        for archive, good in replaced:
            if not good:
                # Looked at again the next time, even if it is the same.
                known.pop(archive.source, None)
        gone = self._gone(prints, replaced)
        await asyncio.gather(*(self._manager.remove(model) for model in gone))

    def _look(self) -> dict[Path, Fingerprint]:
        return {source: fingerprint(source) for source in self._store.sources()}

    def _gone(
        self, prints: dict[Path, Fingerprint], replaced: list[tuple[ModelArchive, bool]]
    ) -> list[ServedModel]:
        """Return the models whose source is not there any more, or now holds another name or version.

        A source may be served under several names; what could not be replaced stays.
        """

        def is_gone(model: ServedModel) -> bool:
            source = model.archive.source
            opened = [(archive, good) for archive, good in replaced if archive.source == source]
            same_name = [(archive, good) for archive, good in opened if archive.name == model.name]
            renewed = [archive for archive, good in same_name or opened if good]
            kept = any((archive.name, archive.version) == (model.name, model.version) for archive in renewed)
            return source not in prints or (bool(renewed) and not kept)

        return [model for model in self._manager.registry.models() if model.at_startup and is_gone(model)]

    async def _replace(self, archive: ModelArchive) -> bool:
        """Put a new model in the place of the old one; returns whether it is served now."""
        replaces = self._manager.registry.has(archive.name, archive.version)
        try:
            await self._manager.replace(archive, at_startup=True)
        except PredictorError as error:
            logger.error("model %s %s is not served: %s", archive.name, archive.version, error.message)
            return False
        logger.info("model %s %s: %s", archive.name, archive.version, "replaced" if replaces else "added")
        return True
