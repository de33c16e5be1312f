"""From a model store and the settings to the models to serve."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from predictor.archives.archive import (
    ModelArchive,
    find_archives,
    is_model_folder,
    model_stem,
    open_archive,
)
from predictor.archives.errors import ArchiveError
from predictor.archives.model_config import ModelConfig
from predictor.configuration import Configuration
from predictor.ipc.arena import Arena
from predictor.serving.cores import usable_cores
from predictor.serving.dependencies import requirements_folder
from predictor.serving.devices import visible_gpus
from predictor.serving.explaining import read_serving_keys
from predictor.serving.model import ServedModel
from predictor.serving.policy import ServingPolicy
from predictor.serving.pool import WorkerOptions
from predictor.serving.registry import Registry
from predictor.serving.sequences import SequencePolicy
from predictor.settings import Settings
from predictor.torchserve.models import DeclaredModel

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class OpenedStore:
    """What a look at the model store found.

    Attributes:
        archives: those that could be opened.
        problems: why others could not, and what looks wrong with these, a sentence each.
        wanted: whether any model was asked for at all.
    """

    archives: list[ModelArchive]
    problems: list[str]
    wanted: bool = True


@dataclasses.dataclass(frozen=True)
class ModelWishes:
    """What a client may ask of a model that it adds; None leaves it to the configuration.

    `max_batch_delay` is in milliseconds, the timeouts are in seconds.
    """

    workers: int | None = None
    batch_size: int | None = None
    max_batch_delay: int | None = None
    response_timeout: int | None = None
    startup_timeout: int | None = None


class ModelStore:
    """The models that the configuration names, on disk and ready to be started.

    Attributes:
        arena: where workers find large bodies.
        scratch: folder that archives are unpacked into; the caller removes it in the end.
    """

    def __init__(self, configuration: Configuration, scratch: Path, arena: Arena | None = None) -> None:
        """Look where `configuration` says; nothing is read before `open`."""
        settings = configuration.settings
        self.scratch = scratch
        self.arena = arena
        self._settings = settings
        self._load = configuration.load
        self._declared = {(model.name, model.version): model for model in configuration.declared}
        self._names: dict[str, list[str]] = {}
        for model in configuration.declared:
            names = self._names.setdefault(model.mar_name, [])
            names += [model.name] if model.name not in names else []
        self._options = WorkerOptions(
            decode_input=settings.decode_input,
            limit_max_image_pixels=settings.limit_max_image_pixels,
            max_response_size=settings.max_response_size,
            service_envelope=settings.service_envelope,
            stop_grace=settings.grace_period,
            requirements=scratch if settings.install_py_dep_per_model else None,
            log_metrics=settings.metrics_mode != "prometheus",
            arena=arena,
        )
        self._count = 1

    def sources(self) -> list[Path]:
        """Return the archives and model folders that the store holds.

        Raises:
            ArchiveError: it cannot be read.
        """
        store = self._settings.model_store
        if not self._load.everything and not self._load.requests:
            return []
        single = store.is_file() or is_model_folder(store, nested=False)
        return [store] if single else find_archives(store)

    def open(self, only: Collection[Path] | None = None) -> OpenedStore:
        """Open the archives; one that cannot be opened does not stop the others.

        Args:
            only: the sources to open; None opens all of them.
        """
        store = self._settings.model_store
        try:
            sources = self.sources()
        except (ArchiveError, OSError) as error:
            return OpenedStore([], [str(error)])
        wanted = bool(self._load.everything or self._load.requests)
        self._count = max(1, len(sources))
        archives: list[ModelArchive] = []
        problems: list[str] = []
        asked: dict[str, list[str | None]] = {}
        for request in self._load.requests:
            asked.setdefault(request.archive, []).append(request.name)
        found: set[str] = set()
        for source in sources if only is None else only:
            try:
                opened = self._open(source, asked)
            except ArchiveError as error:
                problems.append(str(error))
                continue
            names = {source.name, model_stem(source), opened[0].name} & set(asked)
            found |= names
            for archive in opened:
                if not (self._load.everything or names):
                    self.discard(archive)
                    continue
                archives.append(archive)
                problems += [f"{archive.name}: {problem}" for problem in archive.problems()]
                problems += [f"{archive.name}: {problem}" for problem in _without_effect(archive.config)]
        if only is None:
            problems += [f"model '{name}' is not in {store}" for name in sorted(set(asked) - found)]
        return OpenedStore(archives, problems, wanted)

    @property
    def folder(self) -> Path:
        """The folder that names of models are looked for in."""
        store = self._settings.model_store
        return store.parent if store.is_file() or is_model_folder(store, nested=False) else store

    def find(self, name: str) -> Path | None:
        """Return the archive or model folder that would be served as `name`, None when there is none."""
        for source in find_archives(self.folder):
            if name in (*self._names.get(source.name, ()), source.name, model_stem(source)):
                return source
        return None

    def _open(self, source: Path, asked: Mapping[str, list[str | None]]) -> list[ModelArchive]:
        """Open a source once for each name that it is to be served under."""
        names = asked.get(source.name) or asked.get(model_stem(source)) or [None]
        given = self._names.get(source.name, [None])
        return [self.open_one(source, name) for name in (names if any(names) else given)]

    def open_one(self, source: Path, name: str | None = None, handler: str = "") -> ModelArchive:
        """Open one archive or model folder, wherever it lies.

        Args:
            source: the archive or folder.
            name: what to call it, None for its own name.
            handler: what to run instead of its own handler.

        Raises:
            ArchiveError: it cannot be opened; nothing is left in the scratch folder then.
        """
        archive = open_archive(source, self.scratch, name=name)
        handler = handler or (archive.manifest.handler or self._settings.default_service_handler)
        return archive if handler == archive.manifest.handler else _with_handler(archive, handler)

    def make(
        self, archive: ModelArchive, wishes: ModelWishes | None = None, beside: int | None = None
    ) -> ServedModel:
        """Return the model of an archive, not started yet.

        Args:
            archive: the model, unpacked.
            wishes: what a client asks for; None for a model that the configuration asks for.
            beside: how many others are served, which share this machine's cores; None for the store's.

        Raises:
            ValueError: its numbers contradict each other.
        """
        declared = self._declared.get((archive.name, archive.version))
        count = self._count if beside is None else beside + 1
        policy = resolve_policy(archive.config, declared, self._settings, count)
        if wishes is not None:
            policy = self._as_wished(archive, policy, declared, wishes)
            policy = dataclasses.replace(policy, threads=self.threads(policy.min_workers, count))
        return ServedModel(archive, policy, self._options)

    def threads(self, workers: int, models: int) -> int:
        """Return the threads for each of `workers` processes of one of `models` models."""
        return self._settings.threads or _share_of_cores(max(1, workers) * models)

    def discard(self, archive: ModelArchive) -> None:
        """Remove what was unpacked and installed for an archive."""
        scratch, folder = self.scratch.resolve(), archive.directory.resolve()
        if scratch in folder.parents:
            shutil.rmtree(scratch / folder.relative_to(scratch).parts[0], ignore_errors=True)
        shutil.rmtree(requirements_folder(archive, self.scratch), ignore_errors=True)

    def _as_wished(
        self,
        archive: ModelArchive,
        policy: ServingPolicy,
        declared: DeclaredModel | None,
        wishes: ModelWishes,
    ) -> ServingPolicy:
        """Put a client's wishes into the policy, where the model's own config lets it.

        As in TorchServe: the config's timeouts and its number of workers win, its batching does not.
        """
        config = archive.config
        changes: dict[str, float | int] = {}
        for name in ("response_timeout", "startup_timeout"):
            wish = getattr(wishes, name)
            if wish is not None and getattr(config, name) is None:
                changes[name] = wish
        if wishes.batch_size is not None:
            changes["batch_size"] = max(1, wishes.batch_size)
        if wishes.max_batch_delay is not None:
            changes["max_batch_delay"] = max(0, wishes.max_batch_delay) / 1000
        if not config.min_workers:
            workers = wishes.workers
            if workers is None:
                told = declared.min_workers if declared else None
                default = self._settings.workers if "workers" in self._settings.model_fields_set else 0
                workers = default if told is None else told
            changes["min_workers"] = max(0, workers)
            changes["max_workers"] = max(changes["min_workers"], config.max_workers or 0)
        return dataclasses.replace(policy, **changes)  # type: ignore[arg-type]

    def registry(self, archives: list[ModelArchive]) -> Registry:
        """Put archives under their names and versions; one whose numbers are wrong is left out."""
        registry = Registry()
        taken: dict[tuple[str, str], Path] = {}
        for archive in archives:
            key = (archive.name, archive.version)
            if key in taken:
                logger.error("%s is not served: %s is %s %s already", archive.source, taken[key], *key)
                continue
            try:
                declared = self._declared.get((archive.name, archive.version))
                model = self.make(archive)
                model.at_startup = True
                registry.add(model, default=declared is not None and declared.default_version)
                taken[key] = archive.source
            except ValueError as error:
                logger.error("model %s is not served: %s", archive.name, error)
        if self._settings.model_name and len(registry.names()) == 1:
            registry.alias(self._settings.model_name, registry.names()[0])
        return registry


def _with_handler(archive: ModelArchive, handler: str) -> ModelArchive:
    """Return the archive as if its manifest named `handler`."""
    raw = {**archive.manifest.raw, "model": {**archive.manifest.raw.get("model", {}), "handler": handler}}
    return dataclasses.replace(
        archive, manifest=dataclasses.replace(archive.manifest, handler=handler, raw=raw)
    )


def _without_effect(config: ModelConfig) -> list[str]:
    """Say which keys of a model-config.yaml are understood but change nothing here."""
    found = []
    if config.parallel_type or config.torchrun:
        found.append("parallelType and torchrun start one process a worker here, not one for each rank")
    if config.use_venv:
        found.append("useVenv: requirements go to a folder of their own, before the server's packages")
    return found


def resolve_policy(
    config: ModelConfig, declared: DeclaredModel | None, settings: Settings, models: int
) -> ServingPolicy:
    """Decide how one model is served: its own config first, then its declaration, then the settings.

    Args:
        config: the front-end keys of its model-config.yaml.
        declared: what TorchServe's configuration says of it.
        settings: the server's.
        models: how many models share this machine's cores.

    Raises:
        ValueError: the numbers contradict each other.
    """
    told = [config] if declared is None else [config, declared]
    if declared is not None and declared.restored:
        told.reverse()

    def number(name: str, default: float) -> float:
        found = [getattr(place, name, None) for place in told]
        return next((value for value in found if value is not None), default)

    min_workers = int(number("min_workers", settings.workers))
    explain = read_serving_keys(config.raw.get("explain"))
    explain_workers = explain.get("workers", settings.explain_workers)
    return ServingPolicy(
        min_workers=min_workers,
        max_workers=max(min_workers, int(number("max_workers", min_workers))),
        batch_size=max(1, int(number("batch_size", settings.batch_size))),
        max_batch_delay=number("max_batch_delay", settings.max_batch_delay) / 1000,
        queue_size=int(number("job_queue_size", settings.queue_size)),
        response_timeout=number("response_timeout", settings.response_timeout),
        startup_timeout=number("startup_timeout", settings.startup_timeout),
        max_retry_timeout=number("max_retry_timeout", settings.max_retry_timeout),
        client_timeout=number("client_timeout", 0) / 1000,
        gpu_ids=_gpu_ids(config, settings),
        threads=settings.threads or _share_of_cores(min_workers * models),
        job_tickets=bool(config.use_job_ticket),
        continuous=bool(config.continuous_batching),
        sequences=_sequences(config),
        explain_workers=explain_workers,
        explain_queue_size=explain.get("queue_size", settings.explain_queue_size),
        explain_timeout=explain.get("timeout", settings.explain_timeout),
        explain_max_rows=settings.explain_max_rows,
        explain_on_cpu=explain.get("device") == "cpu",
    )


def _sequences(config: ModelConfig) -> SequencePolicy | None:
    if not config.sequence_batching:
        return None
    return SequencePolicy(
        max_sequences=config.max_num_sequence or 1,
        queue_size=config.max_sequence_job_queue_size or 1,
        max_idle=(config.sequence_max_idle or config.sequence_timeout or 0) / 1000,
    )


def _gpu_ids(config: ModelConfig, settings: Settings) -> tuple[int, ...]:
    if settings.device == "cpu" or (config.device_type or "").lower() == "cpu":
        return ()
    count = visible_gpus()
    if settings.device == "cuda" and not count:
        logger.warning("device cuda was asked for, but no NVIDIA device is visible; using the CPU")
    if config.device_ids:
        return tuple(number for number in config.device_ids if number < count)
    return tuple(range(count))


def _share_of_cores(workers: int) -> int:
    """Return how many threads a worker may use so that all of them together do not fight for cores."""
    return max(1, usable_cores() // max(1, workers))
