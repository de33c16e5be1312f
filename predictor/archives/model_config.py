"""`model-config.yaml`: what the front end takes from it, and the whole of it for the handler.

A wrong value is ignored and reported rather than refused, because that is what TorchServe does and its
users' files contain some. A file that is no YAML mapping at all is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from predictor.archives.errors import ArchiveError
from predictor.archives.manifest import read_text

MAX_CONFIG_BYTES = 4 << 20
"""Real files have tens of lines; label lists and prompts inside them may reach some hundred kilobytes."""

MAX_CONFIG_NODES = 200_000
"""Nodes once every alias is written out. A "billion laughs" file of 300 bytes passes 10**9."""

MAX_INTEGER = 2**31 - 1
"""TorchServe reads these into Java ints; a larger value is a wrong type there."""

DEVICE_TYPES = ("cpu", "gpu")
PARALLEL_TYPES = ("pp", "tp", "pptp", "custom")


@dataclass(frozen=True)
class ModelConfig:
    """The front-end keys of a model-config.yaml; None means the file does not say (or says nonsense).

    Durations keep the unit of their key: `max_batch_delay`, `client_timeout`, `sequence_max_idle` and
    `sequence_timeout` are milliseconds, `response_timeout`, `startup_timeout` and `max_retry_timeout`
    seconds. `raw` is the whole file and is what a handler sees as `context.model_yaml_config`; `problems`
    has one sentence per ignored value.
    """

    min_workers: int | None = None
    max_workers: int | None = None
    batch_size: int | None = None
    max_batch_delay: int | None = None
    response_timeout: int | None = None
    startup_timeout: int | None = None
    device_type: str | None = None
    parallel_type: str | None = None
    parallel_level: int | None = None
    device_ids: tuple[int, ...] | None = None
    torchrun: dict[str, Any] | None = None
    max_retry_timeout: int | None = None
    client_timeout: int | None = None
    job_queue_size: int | None = None
    use_job_ticket: bool | None = None
    sequence_max_idle: int | None = None
    sequence_timeout: int | None = None
    max_sequence_job_queue_size: int | None = None
    max_num_sequence: int | None = None
    continuous_batching: bool | None = None
    sequence_batching: bool | None = None
    async_communication: bool | None = None
    use_venv: bool | None = None
    raw: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def parse_model_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Pick the front-end keys out of a parsed file; never raises, see `ModelConfig.problems`."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for key, (name, read) in _KEYS.items():
        if raw.get(key) is None:
            continue
        try:
            values[name] = read(raw[key])
        except _WrongValueError as error:
            problems.append(f"{key}: {raw[key]!r} is ignored, it must be {error}")
    low, high = values.get("min_workers"), values.get("max_workers")
    if low is not None and high is not None and high < low:
        problems.append(f"maxWorkers: {high} is less than minWorkers {low}; {low} is used for both")
        values["max_workers"] = low
    return ModelConfig(**values, raw=dict(raw), problems=tuple(problems))


def load_model_config(path: Path, source: str | os.PathLike[str] | None = None) -> ModelConfig:
    """Read the YAML file `path`, part of the archive `source` (default: the file itself). Empty is allowed.

    Raises `ArchiveError` when it is missing, too large, not UTF-8, not YAML, not a mapping, asks for
    Python objects, or blows up through aliases.
    """
    source, member = (path, None) if source is None else (source, path.name)
    text = read_text(path, source, path.name, MAX_CONFIG_BYTES)
    try:
        raw = _load_yaml(text)
    except _TooManyNodesError as error:
        raise ArchiveError(source, str(error), member=member) from error
    except RecursionError as error:
        raise ArchiveError(source, "is nested too deeply", member=member) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ArchiveError(source, f"is not valid YAML: {error}", member=member) from error
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        reason = f"must be a mapping of keys to values, not a {type(raw).__name__}"
        raise ArchiveError(source, reason, member=member)
    return parse_model_config(raw)


class _TooManyNodesError(Exception):
    """The document is larger than it looks."""


def _load_yaml(text: str) -> Any:
    # Two steps, so that the size with every alias written out is known before anything is built: merge
    # keys copy their targets while building, and whoever prints or sends the result copies the rest.
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of nodes below `node`, itself included, aliases written out."""
    size = known.get(id(node))
    if size == 0:
        raise _TooManyNodesError("contains an alias of itself")
    if size is None:
        known[id(node)] = 0
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = (
            [child for pair in children for child in pair] if isinstance(node, yaml.MappingNode) else children
        )
        size = 1
        for child in flat:
            size += _count(child, known)
            if size > MAX_CONFIG_NODES:
                raise _TooManyNodesError(f"expands to more than {MAX_CONFIG_NODES} values through aliases")
        known[id(node)] = size
    return size


class _WrongValueError(Exception):
    """A front-end key has a value that cannot be used; the text says what it must be."""


def _integer(least: int, clamp: bool = False) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value > MAX_INTEGER:
            raise _WrongValueError("an integer")
        if value < least and not clamp:
            raise _WrongValueError(f"an integer of at least {least}")
        return max(least, value)

    return read


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongValueError("true or false")
    return value


def _choice(allowed: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in allowed:
            raise _WrongValueError("one of " + ", ".join(allowed))
        return value.lower()

    return read


def _integers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, int) for v in value):
        raise _WrongValueError("a list of integers")
    return tuple(value)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _WrongValueError("a mapping")
    return value


_KEYS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    # Where TorchServe raises a value that is too small to the least one, so does this table (clamp).
    "minWorkers": ("min_workers", _integer(1, clamp=True)),
    "maxWorkers": ("max_workers", _integer(0)),
    "batchSize": ("batch_size", _integer(1, clamp=True)),
    "maxBatchDelay": ("max_batch_delay", _integer(0)),
    "responseTimeout": ("response_timeout", _integer(1)),
    "startupTimeout": ("startup_timeout", _integer(1)),
    "deviceType": ("device_type", _choice(DEVICE_TYPES)),
    "parallelType": ("parallel_type", _choice(PARALLEL_TYPES)),
    "parallelLevel": ("parallel_level", _integer(0)),
    "deviceIds": ("device_ids", _integers),
    "torchrun": ("torchrun", _mapping),
    "maxRetryTimeoutInSec": ("max_retry_timeout", _integer(0, clamp=True)),
    "clientTimeoutInMills": ("client_timeout", _integer(0, clamp=True)),
    "jobQueueSize": ("job_queue_size", _integer(0, clamp=True)),
    "useJobTicket": ("use_job_ticket", _boolean),
    "sequenceMaxIdleMSec": ("sequence_max_idle", _integer(0, clamp=True)),
    "sequenceTimeoutMSec": ("sequence_timeout", _integer(0, clamp=True)),
    "maxSequenceJobQueueSize": ("max_sequence_job_queue_size", _integer(1, clamp=True)),
    "maxNumSequence": ("max_num_sequence", _integer(1, clamp=True)),
    "continuousBatching": ("continuous_batching", _boolean),
    "sequenceBatching": ("sequence_batching", _boolean),
    "asyncCommunication": ("async_communication", _boolean),
    "useVenv": ("use_venv", _boolean),
}
