"""Loading the model files an archive can hold; what `BaseHandler` calls for each kind.

Weights are read with `weights_only=True`, so that a file of numbers cannot run code. An archive that
needs the old way says so in its model-config.yaml::

    handler:
      weights_only: false

or the operator says it for all of them with torch's own TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from ts.utils.util import list_classes_from_module

SWITCH = "handler: {weights_only: false}"
_AOTI_MARK = "/aotinductor/"
_TRUE = ("1", "y", "yes", "true")


def load_checkpoint(path: str, map_location: Any, config: Mapping[str, Any] | None) -> Any:
    """Return the content of a .pt, .pth or .safetensors file.

    Raises RuntimeError naming the switch when the file holds more than tensors and plain containers.
    """
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path, device=str(map_location))
    weights_only = wants_weights_only(config)
    try:
        return torch.load(path, map_location=map_location, weights_only=weights_only)
    except pickle.UnpicklingError as error:
        if not weights_only:
            raise
        reason = (
            f"{Path(path).name} holds Python objects beside tensors, and loading those can run code. "
            f"If you trust the archive, write `{SWITCH}` into its model-config.yaml"
        )
        raise RuntimeError(f"{reason}. ({str(error).splitlines()[0]})") from error


def wants_weights_only(config: Mapping[str, Any] | None) -> bool:
    """Say whether weights may hold tensors only; a model's own setting beats the environment."""
    section = (config or {}).get("handler")
    if isinstance(section, Mapping) and "weights_only" in section:
        return section["weights_only"] is not False
    return os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "").lower() not in _TRUE


def load_eager(model_dir: str, model_file: str, weights: str | None, device: Any, config: Any) -> Any:
    """Return an instance of the only class in `model_file`, with the state dict of `weights` if given.

    RuntimeError when the file is missing, ValueError when it does not define exactly one class.
    """
    path = Path(model_dir, model_file)
    if not path.is_file():
        raise RuntimeError("Missing the model.py file")
    classes = list_classes_from_module(import_file(path))
    if len(classes) != 1:
        found = ", ".join(each.__name__ for each in classes) or "none"
        raise ValueError(f"Expected only one class as model definition in {model_file}, found: {found}")
    model = classes[0]()
    if weights:
        model.load_state_dict(load_checkpoint(weights, device, config))
    return model


def import_file(path: Path) -> ModuleType:
    """Import a Python file by its path under its plain name, once.

    By path, so that a model file called like an installed package is still the model file; under its plain
    name, so that `from model import Net` in a handler gets the same class.
    """
    name = path.name.split(".")[0]
    known = sys.modules.get(name)
    if known is not None and os.path.realpath(getattr(known, "__file__", None) or "") == os.path.realpath(
        path
    ):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_onnx(path: str, on_cuda: bool) -> Any:
    """Return an onnxruntime session; RuntimeError when onnxruntime is not installed."""
    try:
        import onnxruntime  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise RuntimeError(f"{Path(path).name} needs onnxruntime, which is not installed") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = ["CUDAExecutionProvider"] * on_cuda + ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(path, providers=providers, sess_options=options)


def run_onnx(session: Any, data: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
    """Run a one-input session; the outputs are on the CPU, a list of them when there are several."""
    outputs = session.run(None, {session.get_inputs()[0].name: data.cpu().numpy()})
    tensors = [torch.from_numpy(output) for output in outputs]
    return tensors[0] if len(tensors) == 1 else tensors


def load_pt2(path: str, device: torch.device) -> Any:
    """Return the callable in a .pt2 file: an AOTInductor package or an exported program."""
    with zipfile.ZipFile(path) as archive:
        compiled = any(_AOTI_MARK in name for name in archive.namelist())
    if compiled:
        index = device.index if device.type == "cuda" else -1
        return torch._inductor.aoti_load_package(path, device_index=index)
    return torch.export.load(path).module().to(device)


def load_aoti_library(path: str, device: torch.device) -> Any:
    """Return the callable in a .so file made by `torch._export.aot_compile`."""
    import torch._export

    return cast(Any, torch._export.aot_load)(path, str(device))
