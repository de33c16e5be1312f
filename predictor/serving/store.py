"""From a model store and the settings to the models to serve."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

from predictor.archives.archive import ModelArchive, find_archives, is_model_folder, open_archive
from predictor.archives.errors import ArchiveError
from predictor.archives.model_config import ModelConfig
from predictor.serving.devices import visible_gpus
from predictor.serving.model import ServedModel, WorkerOptions
from predictor.serving.policy import ServingPolicy
from predictor.serving.registry import Registry
from predictor.serving.sequences import SequencePolicy
from predictor.settings import Settings

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class OpenedStore:
    """The archives that could be opened, and why the others could not."""

    archives: list[ModelArchive]
    problems: list[str]


class ModelStore:
    """The models that the settings name, on disk and ready to be started.

    Attributes:
        scratch: folder that archives are unpacked into; the caller removes it in the end.
    """

    def __init__(self, settings: Settings, scratch: Path) -> None:
        """Look where `settings` say; nothing is read before `open`."""
        self.scratch = scratch
        self._settings = settings
        self._options = WorkerOptions(
            decode_input=settings.decode_input,
            limit_max_image_pixels=settings.limit_max_image_pixels,
            max_response_size=settings.max_response_size,
            service_envelope=settings.service_envelope,
            stop_grace=settings.grace_period,
            requirements=scratch if settings.install_py_dep_per_model else None,
        )
        self._count = 1

    def open(self) -> OpenedStore:
        """Open the archives; one that cannot be opened does not stop the others."""
        store = self._settings.model_store
        try:
            single = store.is_file() or is_model_folder(store)
            sources = [store] if single else find_archives(store)
        except (ArchiveError, OSError) as error:
            return OpenedStore([], [str(error)])
        wanted = None if self._settings.models.strip() in ("", "all") else _names(self._settings.models)
        archives: list[ModelArchive] = []
        problems: list[str] = []
        for source in sources:
            try:
                archive = open_archive(source, self.scratch)
            except ArchiveError as error:
                problems.append(str(error))
                continue
            if wanted is None or archive.name in wanted:
                archives.append(archive)
                problems += [f"{archive.name}: {problem}" for problem in archive.problems()]
        found = {archive.name for archive in archives}
        problems += [f"model '{name}' is not in {store}" for name in sorted((wanted or set()) - found)]
        self._count = max(1, len(archives))
        return OpenedStore(archives, problems)

    def make(self, archive: ModelArchive) -> ServedModel:
        """Return the model of an archive, not started yet.

        Raises:
            ValueError: its numbers contradict each other.
        """
        return ServedModel(
            archive, resolve_policy(archive.config, self._settings, self._count), self._options
        )

    def registry(self, archives: list[ModelArchive]) -> Registry:
        """Put archives under their names and versions; one whose numbers are wrong is left out."""
        registry = Registry()
        for archive in archives:
            try:
                registry.add(self.make(archive))
            except ValueError as error:
                logger.error("model %s is not served: %s", archive.name, error)
        if self._settings.model_name and len(registry.names()) == 1:
            registry.alias(self._settings.model_name, registry.names()[0])
        return registry


def resolve_policy(config: ModelConfig, settings: Settings, models: int) -> ServingPolicy:
    """Decide how one model is served: its own config first, then the server's settings.

    Args:
        models: how many models share this machine's cores.

    Raises:
        ValueError: the numbers contradict each other.
    """
    gpus = _gpu_ids(config, settings)
    min_workers = _first(config.min_workers, settings.workers)
    max_workers = max(min_workers, _first(config.max_workers, min_workers))
    return ServingPolicy(
        min_workers=min_workers,
        max_workers=max_workers,
        batch_size=max(1, _first(config.batch_size, settings.batch_size)),
        max_batch_delay=_first(config.max_batch_delay, settings.max_batch_delay) / 1000,
        queue_size=_first(config.job_queue_size, settings.queue_size),
        response_timeout=float(_first(config.response_timeout, settings.response_timeout)),
        startup_timeout=float(_first(config.startup_timeout, settings.startup_timeout)),
        max_retry_timeout=float(_first(config.max_retry_timeout, settings.max_retry_timeout)),
        client_timeout=(config.client_timeout or 0) / 1000,
        gpu_ids=gpus,
        threads=settings.threads or _share_of_cores(min_workers * models),
        continuous=bool(config.continuous_batching),
        sequences=_sequences(config),
    )


def _sequences(config: ModelConfig) -> SequencePolicy | None:
    if not config.sequence_batching:
        return None
    return SequencePolicy(
        max_sequences=config.max_num_sequence or 1,
        queue_size=config.max_sequence_job_queue_size or 1,
        max_idle=(config.sequence_max_idle or config.sequence_timeout or 0) / 1000,
    )


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}


def _first(*values: float | int | None) -> int:
    """Return the first value that is set."""
    return next(value for value in values if value is not None)  # type: ignore[return-value]


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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, workers))
