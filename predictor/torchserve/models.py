"""The models that a TorchServe configuration declares: `models`, `model_snapshot` and `load_models`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from predictor.torchserve.keys import MODEL_KEYS
from predictor.torchserve.properties import PropertiesError, Property

_MAX_INTEGER = 2**31 - 1
_INTEGERS = {
    "minWorkers": "min_workers",
    "maxWorkers": "max_workers",
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay",
    "responseTimeout": "response_timeout",
    "startupTimeout": "startup_timeout",
}
_IGNORED = ("parallelLevel", "runtimeType")


@dataclass(frozen=True)
class DeclaredModel:
    """How one version of a model is to be served; None means that the declaration does not say.

    `mar_name` is the archive's file name in the model store. `max_batch_delay` is in milliseconds, the
    timeouts are in seconds. A model declared in `model_snapshot` is served; one declared in `models`
    only if it is loaded for another reason. The model's own model-config.yaml wins over these numbers,
    unless they are `restored` from a snapshot, which holds what was in force.
    """

    name: str
    version: str
    mar_name: str
    default_version: bool = False
    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay: int | None = None
    response_timeout: int | None = None
    startup_timeout: int | None = None
    restored: bool = dataclasses.field(default=False, kw_only=True)


@dataclass(frozen=True)
class ModelRequest:
    """One model to load: an archive's file name (or URL), and the name to serve it under, if not its own."""

    archive: str
    name: str | None = None

    def __str__(self) -> str:
        return self.archive if self.name is None else f"{self.name}={self.archive}"


@dataclass(frozen=True)
class LoadModels:
    """Which models to load: everything in the store, or the requests; neither means none."""

    everything: bool = False
    requests: tuple[ModelRequest, ...] = ()

    def __str__(self) -> str:
        """Return the text that `load_models` and `--models` understand, `none` for no model."""
        return "all" if self.everything else ",".join(map(str, self.requests)) or "none"


def parse_load_models(parts: Iterable[str]) -> LoadModels:
    """Read `all`, `none`, `a.mar` and `name=b.mar`, given one by one or separated by commas.

    `all` beside others means all, served under the names that the others give.
    """
    texts = [text.strip() for part in parts for text in part.split(",")]
    words = [text.lower() for text in texts]
    requests = tuple(
        _request(text) for text, word in zip(texts, words, strict=True) if word not in ("", "all", "none")
    )
    return LoadModels("all" in words, requests)


def _request(text: str) -> ModelRequest:
    name, separator, archive = text.partition("=")
    # A URL may have a `=` in its query, but a name has no slash.
    if not separator or "/" in name:
        return ModelRequest(text)
    return ModelRequest(archive.strip(), name.strip() or None)


def parse_model_declarations(found: Property) -> tuple[tuple[DeclaredModel, ...], tuple[str, ...]]:
    """Read the JSON of `models` or `model_snapshot`; returns the models and what was wrong with some.

    Raises:
        PropertiesError: it is not JSON, or not of the form {name: {version: {...}}}.
    """
    try:
        document = json.loads(found.value)
    except (ValueError, RecursionError) as error:
        raise PropertiesError(f"{found.origin}: {found.key} is not valid JSON: {error}") from error
    models = _mapping(document, found, "")
    if found.key == "model_snapshot":
        models = _mapping(models.get("models", {}), found, '"models"')
    declared, problems = [], []
    for name, versions in models.items():
        for version, values in _mapping(versions, found, f'"{name}"').items():
            where = f'"{name}" "{version}"'
            model, wrong = _declared(name, version, _mapping(values, found, where))
            declared.append(model)
            problems += [f"{found.key} ({found.origin}): {where}: {text}" for text in wrong]
    return tuple(declared), tuple(problems)


def _mapping(value: Any, found: Property, where: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    place = f" {where} in" if where else ""
    raise PropertiesError(
        f"{found.origin}:{place} {found.key} must be an object in braces, not {_shown(value)}"
    )


def _declared(name: str, version: str, values: Mapping[str, Any]) -> tuple[DeclaredModel, list[str]]:
    numbers: dict[str, Any] = {}
    problems = list(_unused(values))
    for key, field in _INTEGERS.items():
        if values.get(key) is None:
            continue
        number = _positive(values[key], zero=key in ("minWorkers", "maxWorkers", "maxBatchDelay"))
        if number is None:
            problems.append(f"{key} {_shown(values[key])} is left out, it must be a positive whole number")
        else:
            numbers[field] = number
    mar_name = values.get("marName")
    if not isinstance(mar_name, str) or not mar_name:
        mar_name = f"{name}.mar"
    default = str(values.get("defaultVersion", "")).lower() == "true"
    return dataclasses.replace(DeclaredModel(name, version, mar_name, default), **numbers), problems


def _unused(values: Mapping[str, Any]) -> Iterator[str]:
    for key in values:
        if key in _IGNORED:
            yield f"{key} has {MODEL_KEYS[key]}"
        elif key not in MODEL_KEYS:
            yield f"{key} is not known and is ignored"


def _positive(value: Any, *, zero: bool) -> int | None:
    """Read a number as TorchServe does, which also takes 4.0 and "4"; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = int(value)
    except (ValueError, OverflowError):
        return None
    return number if (0 if zero else 1) <= number <= _MAX_INTEGER else None


def _shown(value: Any) -> str:
    return json.dumps(value)[:80]
