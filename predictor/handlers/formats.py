"""The model files that need no Python class beside them, and what each tells of its inputs and outputs.

    TorchScript           names of the inputs
    torch.export (.pt2)   names, types and shapes
    AOTInductor (.pt2)    nothing: declare the signature
    ONNX                  names, types and shapes

A file is known by its content, except for ONNX, which is known by its suffix.
"""

from __future__ import annotations

import dataclasses
import enum
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from predictor.explain.shadow import ModelKind
from predictor.handlers.fixed_rows import FixedRows
from predictor.handlers.modules import ModelFileError, load_module, weights_file
from predictor.ipc.messages import TensorSpec

_ONNX_TYPES = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "string",
}


class Format(enum.Enum):
    """What a model file is."""

    TORCHSCRIPT = "TorchScript"
    EXPORTED = "exported program"
    AOTINDUCTOR = "AOTInductor package"
    ONNX = "ONNX"


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A module that can be called, and what its file tells of it.

    Attributes:
        module: in evaluation mode, on its device.
        inputs: () where the file does not tell.
        outputs: likewise.
    """

    module: torch.nn.Module
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


def load_model(directory: Path, manifest: Mapping[str, Any], device: torch.device) -> LoadedModel:
    """Load the model that a manifest's `model` entry names.

    Raises:
        ModelFileError: a file is missing, or is not what it should be.
    """
    if manifest.get("modelFile"):
        return LoadedModel(load_module(directory, manifest, device))
    path = weights_file(directory, manifest)
    return _LOADERS[model_format(path)](path, device)


def model_format(path: Path) -> Format:
    """Find out what a model file is.

    Raises:
        ModelFileError: it is none of the formats above, or holds weights alone.
    """
    if path.suffix == ".onnx":
        return Format.ONNX
    if path.suffix == ".safetensors":
        raise _no_class(path)
    if not zipfile.is_zipfile(path):
        raise ModelFileError(
            f"{path.name} is not a TorchScript program, an exported program, an AOTInductor package or ONNX"
        )
    with zipfile.ZipFile(path) as archive:
        names = ["/" + name for name in archive.namelist()]
    if any("/data/aotinductor/" in name for name in names):
        return Format.AOTINDUCTOR
    if any(name.endswith(("/archive_format", "/serialized_exported_program.json")) for name in names):
        return Format.EXPORTED
    if any("/code/" in name for name in names):
        return Format.TORCHSCRIPT
    raise _no_class(path)


def _no_class(path: Path) -> ModelFileError:
    return ModelFileError(
        f"{path.name} holds weights alone: name the file of its nn.Module class as modelFile"
    )


def _any_rows(program: torch.nn.Module, name: str, sizes: Sequence[Any]) -> torch.nn.Module:
    """Return `program`, made to take any number of rows if the first axes of its inputs are fixed."""
    fixed = {size if isinstance(size, int) else None for size in sizes}
    if fixed == {None}:
        return program
    rows = fixed.pop()
    if fixed or not rows:
        raise ModelFileError(
            f"the inputs of {name} differ in their first axis, so requests cannot be batched"
        )
    return FixedRows(program, rows)


# TorchScript


def _load_torchscript(path: Path, device: torch.device) -> LoadedModel:
    load: Callable[..., Any] = torch.jit.load
    try:
        module = load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise ModelFileError(f"{path.name} cannot be loaded as TorchScript: {error}") from error
    schema = module.forward.schema
    inputs = []
    for argument in schema.arguments[1:]:
        if str(argument.type) not in ("Tensor", "Optional[Tensor]"):
            if not argument.has_default_value():
                return LoadedModel(module)
            continue
        optional = argument.has_default_value()
        inputs.append(TensorSpec(argument.name, required=not optional, ranked=False))
    return LoadedModel(module, tuple(inputs))


# torch.export


def _load_exported(path: Path, device: torch.device) -> LoadedModel:
    try:
        program = torch.export.load(path)
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
    except Exception as error:
        # The reader raises whatever its parts raise.
        raise ModelFileError(f"{path.name} cannot be loaded as an exported program: {error}") from error
    values: dict[Any, Any] = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs: list[tuple[Any, Any]] = [(name, values.get(name)) for name in program.graph_signature.user_inputs]
    for name, value in inputs:
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or not value.dim():
            raise ModelFileError(f"{path.name}: its input {name!r} is not a tensor with a batch axis")
    module = _any_rows(program.module(), path.name, [value.shape[0] for _, value in inputs])
    names = _output_names(program.call_spec.out_spec, len(program.graph_signature.user_outputs))
    outputs = [values.get(name) for name in program.graph_signature.user_outputs]
    return LoadedModel(
        module,
        tuple(_spec(str(name), value) for name, value in inputs),
        tuple(_spec(name, value) for name, value in zip(names, outputs, strict=True)),
    )


def _spec(name: str, value: Any) -> TensorSpec:
    """Describe a (fake) tensor; symbolic sizes may be anything."""
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape[1:])
    return TensorSpec(name, str(value.dtype).removeprefix("torch."), shape)


def _output_names(spec: Any, count: int) -> list[str]:
    """Return the names of the outputs: the keys of a dict, else `output` with a number."""
    if spec is not None and spec.type is dict and len(spec.context) == count:
        return [str(key) for key in spec.context]
    return default_names(count)


def default_names(count: int) -> list[str]:
    """Return names for outputs that have none."""
    return ["output"] if count == 1 else [f"output_{position}" for position in range(count)]


# AOTInductor


class _Compiled(torch.nn.Module):
    """An AOTInductor package as a module."""

    model_kind = ModelKind.CALLABLE

    def __init__(self, package: Callable[..., Any]) -> None:
        super().__init__()
        self._package = package

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Run the compiled program."""
        return self._package(*inputs)


def _load_aotinductor(path: Path, device: torch.device) -> LoadedModel:
    load: Callable[..., Any] = torch._inductor.aoti_load_package
    try:
        package: Any = load(str(path), device_index=device.index if device.type == "cuda" else -1)
    except RuntimeError as error:
        raise ModelFileError(f"{path.name} cannot be loaded as an AOTInductor package: {error}") from error
    target = package.loader.get_metadata().get("AOTI_DEVICE_KEY", device.type)
    if target != device.type:
        raise ModelFileError(
            f"{path.name} was compiled for {target}, and this worker computes on {device.type}"
        )
    return LoadedModel(_Compiled(package))


# ONNX


class _OnnxModule(torch.nn.Module):
    """An ONNX Runtime session as a module; tensors pass through host memory."""

    model_kind = ModelKind.CALLABLE

    def __init__(self, session: Any, names: Sequence[str]) -> None:
        super().__init__()
        self._session = session
        self._names = names

    def forward(self, *inputs: torch.Tensor | None) -> Any:
        """Run the session; an optional input may be None."""
        feed = {
            name: tensor.cpu().numpy()
            for name, tensor in zip(self._names, inputs, strict=False)
            if tensor is not None
        }
        outputs = self._session.run(None, feed)
        return tuple(
            torch.from_numpy(output) if output.dtype.kind in "biuf" else output for output in outputs
        )


def _load_onnx(path: Path, device: torch.device) -> LoadedModel:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelFileError(f"{path.name} needs ONNX Runtime: pip install onnx onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    cuda = [("CUDAExecutionProvider", {"device_id": device.index or 0})] if device.type == "cuda" else []
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[*cuda, "CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's exceptions have no common base.
        raise ModelFileError(f"{path.name} cannot be loaded by ONNX Runtime: {error}") from error
    inputs = session.get_inputs()
    for item in inputs:
        if item.type not in _ONNX_TYPES or item.type == "tensor(string)" or not item.shape:
            raise ModelFileError(f"{path.name}: its input '{item.name}' is not a tensor with a batch axis")
    outputs = session.get_outputs()
    if any(item.type not in _ONNX_TYPES for item in outputs):
        odd = next(item for item in outputs if item.type not in _ONNX_TYPES)
        raise ModelFileError(f"{path.name}: its output '{odd.name}' is a {odd.type}, not a tensor")
    module = _OnnxModule(session, [item.name for item in inputs])
    return LoadedModel(
        _any_rows(module, path.name, [item.shape[0] for item in inputs]),
        tuple(_onnx_spec(item) for item in inputs),
        tuple(_onnx_spec(item) for item in outputs),
    )


def _onnx_spec(item: Any) -> TensorSpec:
    """Describe an input or output of a session; named axes may have any length."""
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape[1:])
    return TensorSpec(item.name, _ONNX_TYPES[item.type], shape)


_LOADERS: dict[Format, Callable[[Path, torch.device], LoadedModel]] = {
    Format.TORCHSCRIPT: _load_torchscript,
    Format.EXPORTED: _load_exported,
    Format.AOTINDUCTOR: _load_aotinductor,
    Format.ONNX: _load_onnx,
}
