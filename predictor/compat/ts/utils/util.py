"""Helpers that handlers import from `ts.utils.util`."""

from __future__ import annotations

import enum
import functools
import inspect
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import yaml

logger = logging.getLogger(__name__)

CLEANUP_REGEX = re.compile("<.*?>|&([a-z0-9]+|#[0-9]{1,6}|#x[0-9a-f]{1,6});")
"""Matches an HTML tag or an HTML entity."""

F = TypeVar("F", bound=Callable[..., Any])


class PT2Backend(str, enum.Enum):
    """The `torch.compile` backends TorchServe knew by name."""

    EAGER = "eager"
    AOT_EAGER = "aot_eager"
    INDUCTOR = "inductor"
    NVFUSER = "nvfuser"
    AOT_NVFUSER = "aot_nvfuser"
    AOT_CUDAGRAPHS = "aot_cudagraphs"
    OFI = "ofi"
    FX2TRT = "fx2trt"
    ONNXRT = "onnxrt"
    IPEX = "ipex"
    TORCHXLA_TRACE_ONCE = "torchxla_trace_once"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"
    HPU_BACKEND = "hpu_backend"


class PredictionException(Exception):
    """Raised by a handler to choose the status and the text the client gets (HTTP 500 by default)."""

    def __init__(self, message: str, error_code: int = 500) -> None:
        """Answer the batch with HTTP status `error_code` and `message`."""
        self.message = message
        self.error_code = error_code
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the status when the exception crosses a process boundary."""
        return type(self), (self.message, self.error_code)

    def __str__(self) -> str:
        """Return message and status, as scripts that read the log expect."""
        return f"{self.message} : {self.error_code}"


def list_classes_from_module(module: ModuleType, parent_class: type | None = None) -> list[type]:
    """Return the classes `module` itself defines, by name, optionally only those below `parent_class`."""
    return [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__ and (parent_class is None or issubclass(value, parent_class))
    ]


def check_valid_pt2_backend(backend: str) -> bool:
    """Say whether `torch.compile` can be asked for `backend`; a name nobody knows is logged.

    Beside TorchServe's list this accepts whatever the installed torch has registered.
    """
    if backend in {member.value for member in PT2Backend}:
        return True
    import torch._dynamo

    if backend in torch._dynamo.list_backends(exclude_tags=()):
        return True
    logger.warning("%s is not a supported backend", backend)
    return False


def load_label_mapping(mapping_file_path: str) -> dict[str, str] | None:
    """Read `index_to_name.json`: class index (as a string) to label; None, and a warning, without a file.

    A label may be a string or a list of strings, of which the last counts. The older form
    `{"object_type_names": [...]}` numbers its labels from 0. Raises Exception for any other content.
    """
    if not Path(mapping_file_path).is_file():
        logger.warning("%r is missing, so answers carry class numbers instead of names", mapping_file_path)
        return None
    with Path(mapping_file_path).open(encoding="utf-8") as stream:
        mapping = json.load(stream)
    if not isinstance(mapping, dict):
        raise Exception(f"{mapping_file_path} must be a JSON object of class numbers to labels")
    names = mapping.get("object_type_names")
    if isinstance(names, list):
        return {str(number): name for number, name in enumerate(names)}
    return {key: _label(value, mapping_file_path) for key, value in mapping.items()}


def _label(value: Any, path: str) -> str:
    label = value[-1] if isinstance(value, list) and value else value
    if not isinstance(label, str):
        raise Exception(f"{path}: a label must be a string or a list of strings, not {value!r}")
    return label


def map_class_to_label(
    probs: list[list[Any]],
    mapping: dict[str, str] | None = None,
    lbl_classes: Iterable[Iterable[Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return one `{label: value}` per row of `probs`.

    `lbl_classes` holds the class number of each value (default: its position); `mapping` turns the number,
    as a string, into a label (default: the string itself). Raises Exception for other types and KeyError
    for a class without a label.
    """
    if not isinstance(probs, list):
        raise Exception("probs must be a list")
    if mapping is not None and not isinstance(mapping, dict):
        raise Exception("mapping must be a dict")
    if lbl_classes is None:
        lbl_classes = [range(len(row)) for row in probs]
    return [
        {
            (str(number) if mapping is None else mapping[str(number)]): value
            for number, value in zip(numbers, row, strict=False)
        }
        for numbers, row in zip(lbl_classes, probs, strict=False)
    ]


def get_yaml_config(yaml_file_path: str) -> Any:
    """Return the content of a YAML file ({} when it is empty); OSError or yaml.YAMLError otherwise."""
    with Path(yaml_file_path).open(encoding="utf-8") as stream:
        content = yaml.safe_load(stream)
    return {} if content is None else content


def deprecated(
    version: Any, replacement: str = "", klass: type[Warning] = PendingDeprecationWarning
) -> Callable[[F], F]:
    """Mark a function: every call warns that it goes away in `version` in favour of `replacement`."""

    def mark(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            text = f"{function.__name__} is deprecated in {version} and moved to {replacement}"
            warnings.warn(text, klass, stacklevel=2)
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return mark
