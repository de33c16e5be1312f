"""Loading a PyTorch module from the files of a model's folder, safely."""

from __future__ import annotations

import importlib.util
import inspect
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch


class ModelFileError(Exception):
    """The files of a model cannot be used; the text names the file and says what to change."""


def load_module(directory: Path, manifest: Mapping[str, Any], device: torch.device) -> torch.nn.Module:
    """Load the module that a manifest's `model` entry names, in evaluation mode, on `device`.

    With a `modelFile` the `serializedFile` holds a state dict (`.pt`, `.pth` or `.safetensors`, loaded
    without running code from it); without one it is a TorchScript program.

    Raises:
        ModelFileError: a file is missing, or is not what it should be.
    """
    weights = weights_file(directory, manifest)
    model_file = manifest.get("modelFile")
    if not model_file:
        return _torchscript(weights, device)
    module = _module_class(directory / model_file)()
    try:
        module.load_state_dict(_state_dict(weights, device), assign=True)
    except RuntimeError as error:
        raise ModelFileError(f"{weights.name} does not fit the class in {model_file}: {error}") from error
    return module.to(device).eval()


def weights_file(directory: Path, manifest: Mapping[str, Any]) -> Path:
    """Return the path of the `serializedFile`.

    Raises:
        ModelFileError: none is named, or it is not there.
    """
    serialized = manifest.get("serializedFile")
    if not serialized:
        raise ModelFileError("the manifest names no serializedFile")
    weights = directory / str(serialized)
    if not weights.is_file():
        raise ModelFileError(f"{serialized} is not in the archive")
    return weights


def _torchscript(path: Path, device: torch.device) -> torch.nn.Module:
    load: Callable[..., torch.nn.Module] = torch.jit.load
    return load(str(path), map_location=device).eval()


def _state_dict(path: Path, device: torch.device) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path, device=str(device))
    try:
        state = torch.load(path, map_location=device, weights_only=True, mmap=device.type == "cpu")
    except pickle.UnpicklingError as error:
        raise ModelFileError(f"{path.name} holds more than tensors, and is not loaded: {error}") from error
    return cast(dict[str, torch.Tensor], state)


def _module_class(path: Path) -> type[torch.nn.Module]:
    """Return the only `nn.Module` class that the file defines."""
    if not path.is_file():
        raise ModelFileError(f"{path.name} is not in the archive")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelFileError(f"{path.name} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    classes = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__ and issubclass(member, torch.nn.Module)
    ]
    if len(classes) != 1:
        raise ModelFileError(f"{path.name} must define exactly one nn.Module class, found {len(classes)}")
    return classes[0]
