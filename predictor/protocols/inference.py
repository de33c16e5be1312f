"""What V2 says about the server and its models, the same over REST and gRPC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from predictor.errors import InvalidInput
from predictor.ipc.messages import TensorSpec
from predictor.oip.datatypes import DATATYPES
from predictor.serving.model import ModelState, ServedModel
from predictor.serving.registry import Registry

SERVER_NAME = "predictor"
EXTENSIONS = ("binary_tensor_data", "parameters", "model_repository")
PLATFORM = "pytorch"

# V2's words for the states of a model, as the repository extension has them.
_STATES = {
    ModelState.READY: "READY",
    ModelState.LOADING: "LOADING",
    ModelState.RECOVERING: "LOADING",
    ModelState.STOPPED: "UNLOADING",
}


def server_metadata(version: str) -> dict[str, Any]:
    """Return name, version and extensions of this server."""
    return {"name": SERVER_NAME, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(registry: Registry, model: ServedModel, name: str) -> dict[str, Any]:
    """Return the metadata of a model under the `name` by which it was asked for.

    The shapes have a leading batch axis of any length, -1.
    """
    return {
        "name": name,
        "versions": [other.version for other in registry.models() if other.name == model.name],
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in model.info.inputs],
        "outputs": [_tensor(spec) for spec in model.info.outputs],
    }


def repository_index(registry: Registry, only_ready: bool) -> list[dict[str, str]]:
    """Return every version of every model with its state, and the reason for it if it is not ready."""
    return [
        {
            "name": model.name,
            "version": model.version,
            "state": _STATES.get(model.state, "UNAVAILABLE"),
            "reason": "" if model.ready else model.failure,
        }
        for model in registry.models()
        if model.ready or not only_ready
    ]


def check_load(parameters: Iterable[str]) -> None:
    """Refuse parameters of a load that change the model, as Triton knows them.

    Raises:
        InvalidInput: there is one; the message names it.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise InvalidInput(
                f"Parameter '{name}' is not supported: models are loaded as the store has them"
            )


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    """Describe an input or output; a text is BYTES, a picture the tensor that it becomes."""
    text = spec.kind == "text" or spec.dtype == "string"
    return {
        "name": spec.name,
        "datatype": "BYTES" if text else DATATYPES.get(spec.dtype, "FP32"),
        "shape": [-1] if text or not spec.ranked else [-1, *spec.shape],
    }
