"""From TorchServe's `config.properties` and environment to our settings, with a word on every key.

`load_torchserve_config` is what `predictor serve --config FILE.properties` and `torchserve` call. It
reads the file, replaces `$$NAME$$`, lets the environment override where the file allows it, and turns
each key into settings by the table in `predictor.torchserve.keys`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from predictor.addresses import Address, parse_address
from predictor.settings import Settings
from predictor.torchserve.keys import KEYS, VARIABLES, Key, Kind, Status
from predictor.torchserve.models import (
    DeclaredModel,
    LoadModels,
    ModelRequest,
    parse_load_models,
    parse_model_declarations,
)
from predictor.torchserve.properties import (
    PropertiesError,
    Property,
    override_from_environment,
    read_properties,
    replace_references,
)

_MAX_INTEGER = 2**31 - 1


@dataclass(frozen=True)
class TorchServeConfig:
    """A TorchServe configuration in our terms.

    Attributes:
        settings: values for fields that `Settings` has, by name.
        planned: values for fields that it does not have yet, by the name proposed in `keys`.
        models: how models are to be served, from `models` and `model_snapshot` (the latter wins).
        load_models: which models to load, None if the configuration does not say.
        snapshot: whether `model_snapshot` says so; TorchServe then heeds no `--models` either.
        notes: one sentence for each key that was read.
        problems: those of them, and further ones, that say more than "it was applied".
        path: the file, None for none.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    planned: dict[str, Any] = field(default_factory=dict)
    models: tuple[DeclaredModel, ...] = ()
    load_models: LoadModels | None = None
    snapshot: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    path: Path | None = None


def load_torchserve_config(path: Path | None, environ: Mapping[str, str]) -> TorchServeConfig:
    """Read a TorchServe configuration.

    Args:
        path: the properties file; None reads nothing, and the environment then overrides nothing, because
            only the file can allow it.
        environ: the environment, `os.environ` as a rule.

    Raises:
        PropertiesError: (a `SettingsError`) the file cannot be read, or a value cannot be used; the text
            names the file and the line, or the environment variable.
    """
    if path is None:
        return TorchServeConfig()
    properties = replace_references(read_properties(path), environ)
    properties = override_from_environment(properties, environ, _allowed_variables(properties))
    reader = _Reader()
    for found in properties.values():
        reader.take(found)
    reader.choose_models()
    reader.find_store(path, properties.get("model_store"))
    return TorchServeConfig(
        settings={name: value for name, value in reader.values.items() if name in Settings.model_fields},
        planned={name: value for name, value in reader.values.items() if name not in Settings.model_fields},
        models=tuple(replace(model, restored=path.suffix == ".cfg") for model in reader.models.values()),
        load_models=reader.load_models,
        snapshot=reader.served is not None,
        notes=tuple(reader.notes),
        problems=tuple(reader.problems),
        path=path,
    )


def find_kserve_layout(path: Path) -> Path | None:
    """Return the properties file if the folder `path` has KServe's layout, None if it has not.

    That is `config/config.properties` beside `model-store/`, as storage is mounted at /mnt/models.
    """
    properties = path / "config" / "config.properties"
    return properties if properties.is_file() and (path / "model-store").is_dir() else None


def is_in_kserve_layout(path: Path) -> bool:
    """Say whether a properties file is that of a folder in KServe's layout."""
    return path.parent.name == "config" and find_kserve_layout(path.absolute().parent.parent) is not None


def _allowed_variables(properties: Mapping[str, Property]) -> dict[str, str]:
    """Return the environment variables that the file lets override it."""
    if not _is_true(properties, "enable_envvars_config"):
        return {}
    variables = dict(VARIABLES)
    if not _is_true(properties, "use_env_allowed_urls"):
        del variables["TS_ALLOWED_URLS"]
    return variables


def _is_true(properties: Mapping[str, Property], key: str) -> bool:
    return key in properties and properties[key].value.strip().lower() == "true"


class _Reader:
    """Collects settings, models and remarks, key by key."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.models: dict[tuple[str, str], DeclaredModel] = {}
        self.load_models: LoadModels | None = None
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.served: tuple[DeclaredModel, ...] | None = None

    def take(self, found: Property) -> None:
        """Apply one key, or say why not."""
        key = KEYS.get(found.key)
        label = f"{found.key} ({found.origin})"
        if key is None:
            self._problem(f"{label} is not a key of TorchServe 0.12 and is ignored{_suggestion(found.key)}")
        elif key.status is Status.NO_EFFECT:
            self._problem(f"{label} has no effect here, because {key.remark}")
        elif key.kind is Kind.JSON:
            self._declare(found)
        elif key.read:
            self._flag(found)
            self.notes.append(f"{label} is {found.value.strip()}")
        else:
            self._set(key, found, label)

    def choose_models(self) -> None:
        """Let the models of `model_snapshot`, if any, be the ones to load."""
        if self.served is None:
            return
        if self.load_models is not None:
            self._problem("load_models does not count, because model_snapshot says what to load")
        requests = dict.fromkeys(ModelRequest(model.mar_name, model.name) for model in self.served)
        self.load_models = LoadModels(requests=tuple(requests))
        self.values["models"] = str(self.load_models)

    def find_store(self, path: Path, given: Property | None) -> None:
        """In KServe's layout, find the model store wherever the storage is mounted."""
        if not is_in_kserve_layout(path):
            return
        folder = path.absolute().parent.parent
        if given is None:
            self.notes.append(
                f"model_store is not given; it is {folder / 'model-store'}, beside the folder config"
            )
        elif not self.values["model_store"].exists():
            self._problem(f"model_store ({given.origin}) does not exist; {folder / 'model-store'} is used")
        else:
            return
        self.values["model_store"] = folder / "model-store"

    def _set(self, key: Key, found: Property, label: str) -> None:
        try:
            values = self._values(key, found)
        except ValueError as error:
            raise PropertiesError(f"{found.origin}: {found.key}: {error}") from error
        self.values.update(values)
        if not values:
            self.notes.append(f"{label} is 0 and leaves the default in place")
            return
        planned = [name for name in values if name not in Settings.model_fields]
        shown = ", ".join(f"{name} = {'***' if key.kind is Kind.SECRET else v}" for name, v in values.items())
        if planned:
            self._problem(f"{label} is understood ({shown}), but {' and '.join(planned)} has no effect yet")
        else:
            self.notes.append(f"{label} sets {shown}")

    def _values(self, key: Key, found: Property) -> dict[str, Any]:
        if key.name == "inference_address":
            return _listening(parse_address(found.value, key.name))
        if key.name == "load_models":
            self.load_models = parse_load_models([found.value])
            return {"models": str(self.load_models)}
        if key.kind in (Kind.FLAG, Kind.NEGATED_FLAG):
            value: Any = self._flag(found) is (key.kind is Kind.FLAG)
        elif key.kind is Kind.ADDRESS:
            parse_address(found.value, key.name)
            value = found.value.strip()
        else:
            value = _CONVERTERS[key.kind](found.value)
        if key.name == "default_workers_per_model" and value == 0:
            return {}
        return dict.fromkeys(key.settings, value)

    def _flag(self, found: Property) -> bool:
        text = found.value.strip().lower()
        if text not in ("true", "false"):
            self._problem(
                f"{found.key} ({found.origin}) is {found.value!r}, neither true nor false; taken as false"
            )
        return text == "true"

    def _declare(self, found: Property) -> None:
        if not found.value.strip():
            self.notes.append(f"{found.key} ({found.origin}) is empty")
            return
        declared, problems = parse_model_declarations(found)
        snapshot = found.key == "model_snapshot"
        for model in declared:
            identity = (model.name, model.version)
            if snapshot or identity not in self.models:
                self.models[identity] = model
        if snapshot:
            self.served = declared
        names = ", ".join(f"{model.name} {model.version}" for model in declared) or "no model"
        self.notes.append(f"{found.key} ({found.origin}) declares {names}")
        for problem in problems:
            self._problem(problem)

    def _problem(self, text: str) -> None:
        self.notes.append(text)
        self.problems.append(text)


def _listening(address: Address) -> dict[str, Any]:
    if address.unix is not None:
        return {"unix_socket": address.unix}
    values: dict[str, Any] = {"host": address.host, "port": address.port}
    return {**values, "tls": True} if address.tls else values


def _integer(text: str) -> int:
    if (
        not re.fullmatch(r"[+-]?[0-9]+", text.strip(), re.ASCII)
        or not -_MAX_INTEGER - 1 <= int(text) <= _MAX_INTEGER
    ):
        raise ValueError(f"{text!r} is not a whole number of 32 bits")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number") from error


_CONVERTERS: dict[Kind, Callable[[str], Any]] = {
    Kind.TEXT: str.strip,
    Kind.SECRET: str,
    Kind.PATH: lambda text: Path(text.strip()),
    Kind.INTEGER: _integer,
    Kind.NUMBER: _number,
}


def _suggestion(key: str) -> str:
    close = difflib.get_close_matches(key, KEYS, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
