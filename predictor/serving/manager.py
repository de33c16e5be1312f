"""Changing which models are served, and by how many workers, while the server runs.

Every change goes through here: a client's (the management API, V2's repository extension) and those of a
model store that is read again. Changes to one model happen one after the other, in the order they were
asked for (`changes`); a change that fails leaves everything as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

from predictor.archives.archive import ModelArchive
from predictor.archives.errors import ArchiveError
from predictor.errors import InvalidInput, ModelNotFound, ModelVersionNotFound
from predictor.serving.changes import Changes, outcome
from predictor.serving.errors import (
    DefaultVersionInUse,
    DefaultVersionNotFound,
    ModelConflict,
    ModelSourceNotFound,
    ModelUnusable,
    RequirementsFailed,
    WorkersFailed,
)
from predictor.serving.fingerprint import Fingerprint, fingerprint
from predictor.serving.model import ServedModel
from predictor.serving.registry import Registry
from predictor.serving.sources import Source, Sources
from predictor.serving.store import ModelStore, ModelWishes

logger = logging.getLogger(__name__)

# Of one model: more is a mistake, and starting them would take the machine down.
MAX_WORKERS = 256


@dataclasses.dataclass(frozen=True)
class Registration:
    """A client's wish for a model.

    Attributes:
        url: what the model is called, see `Sources.find`.
        name: what it shall be served as, "" for its own name.
        handler: what shall run instead of its own handler, "" for that.
        wishes: how it shall be served.
        wait: whether to wait until its workers have loaded it.
        kms: see `Sources.find`.
    """

    url: str
    name: str = ""
    handler: str = ""
    wishes: ModelWishes = dataclasses.field(default_factory=ModelWishes)
    wait: bool = True
    kms: bool = False


class ModelManager:
    """See the module.

    Attributes:
        registry: the models that are served.
        changed: called after each change, with nothing.
        known: the archives and folders that models were made from, as they were then.
    """

    def __init__(
        self, registry: Registry, store: ModelStore, sources: Sources, unregister_timeout: float
    ) -> None:
        """Manage the models of `registry`.

        Args:
            registry: what is served now is taken as it is.
            store: opens archives, and knows how a model is to be served.
            sources: finds what clients name.
            unregister_timeout: seconds that accepted requests may take when their model goes.
        """
        self.registry = registry
        self.changed: list[Callable[[], object]] = []
        self.known: dict[Path, Fingerprint] = {}
        self._store = store
        self._sources = sources
        self._unregister_timeout = unregister_timeout
        self._downloads: dict[ServedModel, Source] = {}
        self._changes = Changes()
        for model in registry.models():
            self._note(model.archive.source)

    # what clients ask for

    async def register(self, wish: Registration) -> ServedModel:
        """Serve a further model, or a further version of one.

        Raises:
            PredictorError: it cannot be found, fetched, opened or loaded, or its name and version are
                taken; nothing of it is left then.
        """
        if (wish.wishes.workers or 0) > MAX_WORKERS:
            raise InvalidInput(f"initial_workers cannot be more than {MAX_WORKERS}.")
        if wish.wait:
            return await self._changes.run(self._register(wish))
        opened: asyncio.Future[ServedModel] = asyncio.get_running_loop().create_future()
        task = self._changes.begin(self._register(wish, opened))
        await asyncio.wait([task, opened], return_when=asyncio.FIRST_COMPLETED)
        return opened.result() if opened.done() else await outcome(task)

    async def unregister(self, name: str, version: str | None = None) -> None:
        """Stop serving a version of a model, the default one unless told otherwise, once it is idle.

        Raises:
            ModelNotFound: nothing has this name.
            ModelVersionNotFound: the name is known, the version is not.
            DefaultVersionInUse: it is the default, and there are others.
        """
        await self._changes.run(self._unregister(name, version))

    async def scale(
        self, name: str, version: str | None, minimum: int, maximum: int, *, wait: bool
    ) -> ServedModel:
        """Serve a version of a model by between `minimum` and `maximum` workers.

        Args:
            name: of the model.
            version: None for the default one.
            minimum: workers that must live.
            maximum: workers that may live; not below `minimum`.
            wait: whether to wait until the new ones have loaded the model, and the others have left.

        Raises:
            InvalidInput: the numbers contradict each other.
            ModelNotFound: nothing has this name.
            ModelVersionNotFound: the name is known, the version is not.
            WorkersFailed: a worker cannot be started; there are as many as before then.
        """
        if minimum < 0:
            raise InvalidInput("min_worker cannot be less than 0.")
        if maximum < minimum:
            raise InvalidInput("max_worker cannot be less than min_worker.")
        if maximum > MAX_WORKERS:
            raise InvalidInput(f"max_worker cannot be more than {MAX_WORKERS}.")
        model = self.registry.get(name, version)
        change = self._scale(name, model.version, minimum, maximum)
        if wait:
            await self._changes.run(change)
        else:
            self._changes.begin(change)
        return model

    async def set_default(self, name: str, version: str) -> None:
        """Let requests that name no version go to `version`.

        Raises:
            ModelNotFound: nothing has this name.
            DefaultVersionNotFound: the name is known, the version is not.
        """
        async with self._changes.alone(self.registry.get(name).name):
            try:
                self.registry.set_default(self.registry.get(name, version))
            except ModelVersionNotFound:
                raise DefaultVersionNotFound(name, version) from None
        self._tell()

    async def load(self, name: str) -> ServedModel:
        """Serve the model that the store has under `name`, as it is there now.

        Raises:
            ModelNotFound: the store has none.
            PredictorError: it cannot be opened or loaded; what was served before is served on.
        """
        return await self._changes.run(self._load(name))

    async def unload(self, name: str) -> None:
        """Stop serving every version of a model, once it is idle.

        Raises:
            ModelNotFound: nothing has this name.
        """
        await self._changes.run(self._unload(name))

    # what a model store that is read again asks for

    async def replace(self, archive: ModelArchive, *, at_startup: bool) -> ServedModel:
        """Serve an archive in the place of the model of its name and version, if there is one.

        The new one is started beside the old one, which finishes what it has accepted.

        Args:
            archive: the new one.
            at_startup: whether it goes again when the store does not have it any more.

        Raises:
            PredictorError: the new one cannot be served; the old one is served on, and what was
                unpacked for the new one is removed.
        """
        async with self._changes.alone(archive.name):
            model = await self._make(archive)
            model.at_startup = at_startup
            await self._bring_up(model)
            old = self.registry.add(model)
            self._note(archive.source)
            if old is not None:
                model.url = old.url
                await self._end(old)
        self._tell()
        return model

    async def remove(self, model: ServedModel) -> None:
        """Stop serving `model`, once it is idle; nothing happens if it is not served any more."""
        async with self._changes.alone(model.name):
            if model not in self.registry.models():
                return
            await self._drop(model)
            if all(other.archive.source != model.archive.source for other in self.registry.models()):
                self.known.pop(model.archive.source, None)
        self._tell()

    async def close(self) -> None:
        """Give up every change that is under way, and begin no other."""
        await self._changes.close()

    # private

    async def _register(
        self, wish: Registration, opened: asyncio.Future[ServedModel] | None = None
    ) -> ServedModel:
        """Serve what a client wishes; `opened` gets the model before its workers have loaded it."""
        source = await self._sources.find(wish.url, kms=wish.kms)
        try:
            archive = await asyncio.to_thread(self._open, source, wish)
            async with self._changes.alone(archive.name):
                model = await self._add(archive, wish, source, opened)
        except BaseException:
            await asyncio.to_thread(source.discard)
            raise
        self._tell()
        return model

    def _open(self, source: Source, wish: Registration) -> ModelArchive:
        try:
            return self._store.open_one(source.path, wish.name or None, wish.handler)
        except ArchiveError as error:
            raise ModelUnusable(wish.url, str(error)) from error

    async def _add(
        self,
        archive: ModelArchive,
        wish: Registration,
        source: Source,
        opened: asyncio.Future[ServedModel] | None,
    ) -> ServedModel:
        """Serve an archive under a name and version that nobody has."""
        if self.registry.has(archive.name, archive.version):
            await asyncio.to_thread(self._store.discard, archive)
            raise ModelConflict(archive.name, archive.version)
        model = await self._make(archive, wish)
        model.url = source.url
        if opened is not None:
            self.registry.add(model)
            opened.set_result(model)
        await self._bring_up(model)
        if opened is None:
            self.registry.add(model)
        self._note(source.path)
        if source.written:
            self._downloads[model] = source
        return model

    async def _make(self, archive: ModelArchive, wish: Registration | None = None) -> ServedModel:
        try:
            if wish is None:
                return self._store.make(archive)
            return self._store.make(archive, wish.wishes, len(self.registry.models()))
        except ValueError as error:
            await asyncio.to_thread(self._store.discard, archive)
            raise ModelUnusable(wish.url if wish else archive.source.name, str(error)) from error

    async def _bring_up(self, model: ServedModel) -> None:
        """Start a model and wait until its workers have loaded it; on failure nothing of it is left."""
        try:
            await model.start()
            if model.requirements_failure:
                raise RequirementsFailed(model.name, model.requirements_failure)
            await _reach(model)
        except BaseException:
            # First of all out of sight: a model that ends makes the whole server look unready.
            if model in self.registry.models():
                self.registry.remove(model)
            await self._end(model, 0)
            raise

    async def _unregister(self, name: str, version: str | None) -> None:
        async with self._changes.alone(self.registry.get(name, version).name):
            model = self.registry.get(name, version)
            if self.registry.is_default(model) and len(self.registry.versions(name)) > 1:
                raise DefaultVersionInUse(name)
            await self._drop(model)
        self._tell()

    async def _drop(self, model: ServedModel) -> None:
        self.registry.remove(model)
        await self._end(model, self._unregister_timeout)
        logger.info("model %s %s: no longer served", model.name, model.version)

    async def _scale(self, name: str, version: str, minimum: int, maximum: int) -> None:
        async with self._changes.alone(self.registry.get(name, version).name):
            model = self.registry.get(name, version)
            before = model.policy
            await model.scale(minimum, maximum, self._store.threads(maximum, len(self.registry.models())))
            try:
                await _reach(model)
            except WorkersFailed:
                await model.scale(before.min_workers, before.max_workers, before.threads)
                raise
        logger.info("model %s %s: %d workers", model.name, model.version, len(model.workers))
        self._tell()

    async def _load(self, name: str) -> ServedModel:
        source = await asyncio.to_thread(self._source_of, name)
        served = [model for model in self.registry.models() if model.name == name]
        known = self.known.get(source)
        same = [model for model in served if model.ready and model.archive.source == source]
        if same and known == await asyncio.to_thread(fingerprint, source):
            return same[0]
        archive = await asyncio.to_thread(self._open, Source(source, name), Registration(name, name))
        model = await self.replace(archive, at_startup=any(other.at_startup for other in served))
        if served:
            await self.set_default(name, model.version)
        for other in served:
            if other.archive.source == source and other.version != model.version:
                await self.remove(other)
        return model

    def _source_of(self, name: str) -> Path:
        """Return where a model comes from: the one that is served, else the one in the store.

        Raises:
            ModelNotFound: there is neither.
        """
        with contextlib.suppress(ModelNotFound):
            return self.registry.get(name).archive.source
        try:
            found = self._store.find(name)
        except ArchiveError as error:
            raise ModelSourceNotFound(str(error)) from error
        if found is None:
            raise ModelNotFound(name)
        return found

    async def _unload(self, name: str) -> None:
        async with self._changes.alone(self.registry.get(name).name):
            models = self.registry.versions(name)
            await asyncio.gather(*(self._drop(model) for model in models))
        self._tell()

    async def _end(self, model: ServedModel, grace: float | None = None) -> None:
        """Stop a model, and remove what was unpacked, installed and downloaded for it."""
        try:
            await model.stop(grace)
        except asyncio.CancelledError:
            # The server stops: this model is waited for like those that are served, and no worker stays.
            await model.stop()
            raise
        source = self._downloads.pop(model, None)
        if source is not None:
            await self._give_up(source)
        await asyncio.to_thread(self._store.discard, model.archive)

    async def _give_up(self, source: Source) -> None:
        """Remove a download, unless another model was made from it, whose it is from now on."""
        heirs = (model for model in self.registry.models() if model.archive.source == source.path)
        heir = next(heirs, None)
        if heir is None:
            await asyncio.to_thread(source.discard)
        else:
            self._downloads[heir] = source

    def _note(self, source: Path) -> None:
        """Remember a source as it is now."""
        try:
            self.known[source] = fingerprint(source)
        except OSError as error:
            logger.warning("%s cannot be looked at: %s", source, error)

    def _tell(self) -> None:
        for tell in self.changed:
            tell()


async def _reach(model: ServedModel) -> None:
    """Wait until every worker that is wanted has loaded the model.

    Raises:
        WorkersFailed: one cannot.
    """
    if model.policy.min_workers and model.policy.response_timeout <= 0:
        raise WorkersFailed(model.name, model.version, "response_timeout leaves them no time")
    if not await model.reached():
        raise WorkersFailed(model.name, model.version, model.failure, model.out_of_memory)
