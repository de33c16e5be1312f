"""All that a server is told, from whichever kind of file it is written in."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from predictor.addresses import SPARE_PORT, Address, parse_address
from predictor.settings import USUAL_PORT, Settings, SettingsError, load_settings, read_settings_file
from predictor.torchserve.config import (
    TorchServeConfig,
    find_kserve_layout,
    is_in_kserve_layout,
    load_torchserve_config,
)
from predictor.torchserve.models import DeclaredModel, LoadModels, parse_load_models

# TorchServe's configuration, and its snapshots of it.
_PROPERTIES = (".properties", ".cfg")


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The settings, and what only TorchServe's configuration can say besides them.

    Attributes:
        settings: all of them, resolved.
        load: which models to serve.
        declared: how some of them are to be served; their own model-config.yaml wins.
        problems: what the operator should know of the file, a sentence each.
        properties: TorchServe's file, None where there is none.
    """

    settings: Settings
    load: LoadModels
    declared: tuple[DeclaredModel, ...] = ()
    problems: tuple[str, ...] = ()
    properties: Path | None = None


def resolve(flags: Mapping[str, Any], config: Path | None) -> Configuration:
    """Put flags, environment and file together.

    Args:
        flags: settings given on the command line, by field name.
        config: the file given with `--config`; without one, KServe's layout in the model store is found.

    Raises:
        SettingsError: a value is wrong, or the file cannot be read.
    """
    if config is None:
        config = _layout(flags)
    if config is None or config.suffix not in _PROPERTIES:
        values = read_settings_file(config) if config is not None else {}
        settings = load_settings(flags, values, config)
        return Configuration(settings, parse_load_models([settings.models.strip() or "all"]))
    file = load_torchserve_config(config, os.environ)
    settings = load_settings(_store_of_layout(flags, file), file.settings, config)
    settings = _keep_shared(settings, file)
    moved = _leave_grpc_its_port(settings, flags) if is_in_kserve_layout(config) else {}
    settings = settings.model_copy(update=moved)
    settings = settings.model_copy(update=_torchserves_ports(settings))
    load = _what_to_load(settings, flags, file)
    problems = (
        f"{name} is {address}, because KServe looks for gRPC on port {settings.grpc_port}"
        for name, address in moved.items()
    )
    return Configuration(settings, load, file.models, (*file.problems, *problems), config)


def _keep_shared(settings: Settings, file: TorchServeConfig) -> Settings:
    """Let what shares the main address in the file share it still, where a flag has moved that.

    KServe's files name one port for inference and management, and its runtimes give another by flag.
    """
    moved = Address(settings.host, settings.port)
    told = Address(file.settings.get("host", settings.host), file.settings.get("port", settings.port))
    changes = {
        name: str(moved)
        for name in ("management_address", "metrics_address")
        if not moved.is_same_socket(told)
        and getattr(settings, name)
        and parse_address(getattr(settings, name), name).is_same_socket(told)
    }
    return settings.model_copy(update=changes)


def _leave_grpc_its_port(settings: Settings, flags: Mapping[str, Any]) -> dict[str, str]:
    """Return other addresses for what the file puts where an InferenceService expects gRPC (h2c).

    The file was written for TorchServe, the port number of the Service for KServe: that one is the contract.
    """
    port = settings.grpc_port
    if not port or (settings.port == port and settings.unix_socket is None):
        return {}
    given = load_settings(flags).model_fields_set
    changes = {}
    for name in ("management_address", "metrics_address"):
        text = getattr(settings, name)
        if text and name not in given and parse_address(text, name).port == port:
            changes[name] = str(dataclasses.replace(parse_address(text, name), port=SPARE_PORT))
    return changes


def _torchserves_ports(settings: Settings) -> dict[str, Any]:
    """Return the gRPC ports that TorchServe opens unasked: that for management only where it may manage."""
    wanted = {"grpc_inference_port": True, "grpc_management_port": settings.enable_model_api}
    given = settings.model_fields_set
    return {name: USUAL_PORT for name, is_wanted in wanted.items() if is_wanted and name not in given}


def _layout(flags: Mapping[str, Any]) -> Path | None:
    """Return the config.properties of a model store that has KServe's layout."""
    store = Path(flags["model_store"]) if "model_store" in flags else load_settings(flags).model_store
    try:
        return find_kserve_layout(store)
    except OSError as error:
        reader = f" by user {os.getuid()}" if hasattr(os, "getuid") else ""
        raise SettingsError(f"model store {store}: cannot be read{reader}: {error.strerror}") from error


def _store_of_layout(flags: Mapping[str, Any], file: TorchServeConfig) -> Mapping[str, Any]:
    """Let FOLDER, on the command line or in the environment, mean FOLDER/model-store in KServe's layout."""
    given = load_settings(flags)
    store = given.model_store
    if "model_store" not in given.model_fields_set or find_kserve_layout(store) is None:
        return flags
    return {**flags, "model_store": file.settings.get("model_store", store / "model-store")}


def _what_to_load(settings: Settings, flags: Mapping[str, Any], file: TorchServeConfig) -> LoadModels:
    """Return what to load: a snapshot's models, else those of the flag, else those of the file."""
    if file.load_models is not None and (file.snapshot or "models" not in flags):
        return file.load_models
    return parse_load_models([settings.models.strip() or "all"])
