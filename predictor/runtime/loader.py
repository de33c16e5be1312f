"""From a model's folder to the function that answers batches.

The rules are those of TorchServe 0.12: `handler` names a module in the
model's folder, else one of the built-in handlers; the module has the named function (`handle` unless
told otherwise) or exactly one class.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from predictor.handlers.context import Context
from predictor.handlers.signature import SignatureHandler

logger = logging.getLogger(__name__)

EntryPoint = Callable[[Any, Context], Any]

# Native handlers, by the name that a manifest may give.
_NATIVE = {"signature": SignatureHandler}


class HandlerError(Exception):
    """The handler cannot be used; the text says what to change."""


class LoadedHandler:
    """An initialised handler.

    Attributes:
        entry_point: `entry_point(data, context)` answers one batch.
        instance: the handler object, None for a module-level function.
        name: what the manifest calls it.
    """

    def __init__(self, entry_point: EntryPoint, instance: Any, name: str) -> None:
        """Keep the parts."""
        self.entry_point = entry_point
        self.instance = instance
        self.name = name


def load_handler(handler: str, context: Context) -> LoadedHandler:
    """Import the handler named `handler`, make it and initialise it.

    Raises:
        HandlerError: there is no such module, function or class.
        Exception: whatever the handler's own code raises while it is imported or initialised.
    """
    model_dir = Path(context.system_properties["model_dir"])
    if not handler and ((context.manifest or {}).get("model") or {}).get("serializedFile"):
        handler = "signature"  # a model file and nothing else
    if handler in _NATIVE:
        return _from_class(_NATIVE[handler], handler, context)
    module_name, _, function_name = handler.partition(":")
    module_name = module_name[:-3] if module_name.endswith(".py") else module_name
    module_name = module_name.split("/")[-1]
    module = _import(module_name, model_dir)
    function = getattr(module, function_name or "handle", None)
    if callable(function) and not inspect.isclass(function):
        function(None, context)
        return LoadedHandler(function, None, handler)
    if function_name:
        raise HandlerError(f"handler {handler!r}: module {module_name!r} has no function {function_name!r}")
    return _from_class(_only_class(module), handler, context)


def wrap_in_envelope(name: str, entry_point: EntryPoint) -> EntryPoint:
    """Return `entry_point` inside TorchServe's request envelope `name`.

    Raises:
        HandlerError: there is no such envelope.
    """
    module_name = f"ts.torch_handler.request_envelope.{name}"
    if not name.isidentifier() or name == "base" or importlib.util.find_spec(module_name) is None:
        raise HandlerError(f"envelope {name!r} is not known; known are body, json, kserve and kservev2")
    envelope = _only_class(importlib.import_module(module_name))(entry_point)
    return cast(EntryPoint, envelope.handle)


def new_metrics(model_name: str, log: bool = False) -> Any:
    """Return the object that handlers know as `context.metrics`; with `log` every value is logged too."""
    logging.getLogger("ts.metrics.caching_metric.values").disabled = not log
    module = importlib.import_module("ts.metrics.metrics_store")
    metrics = module.MetricsStore(model_name=model_name)
    metrics.initialize_cache()
    return metrics


def _import(name: str, model_dir: Path) -> ModuleType:
    """Import `name` from the model's folder, else from TorchServe's built-in handlers."""
    if not name:
        raise HandlerError("the manifest names no handler")
    if (model_dir / f"{name}.py").is_file() or (model_dir / name / "__init__.py").is_file():
        return _import_file(name, model_dir)
    for module in (f"ts.torch_handler.{name}", name):
        if _is_importable(module):
            return importlib.import_module(module)
    raise HandlerError(
        f"handler {name!r} is neither a file of the archive ({name}.py) nor built in nor installed"
    )


def _is_importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):
        return False


def _import_file(name: str, model_dir: Path) -> ModuleType:
    """Import a module of the model's folder even if this process knows another one of that name."""
    loaded = sys.modules.get(name)
    if loaded is None:
        return importlib.import_module(name)
    path = model_dir / f"{name}.py"
    if not path.is_file():
        path = model_dir / name / "__init__.py"
    spec = importlib.util.spec_from_file_location(f"{name}__handler", path)
    if spec is None or spec.loader is None:
        raise HandlerError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _only_class(module: ModuleType) -> type[Any]:
    classes = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__
    ]
    if len(classes) != 1:
        found = ", ".join(sorted(cls.__name__ for cls in classes)) or "none"
        raise HandlerError(
            f"{module.__name__}.py must define a function 'handle' or exactly one class; found {found}"
        )
    return classes[0]


def _from_class(cls: type[Any], name: str, context: Context) -> LoadedHandler:
    instance = cls()
    initialize = getattr(instance, "initialize", None)
    if callable(initialize):
        initialize(context)
    if not callable(getattr(instance, "handle", None)):
        raise HandlerError(f"class {cls.__name__} has no method 'handle'")
    return LoadedHandler(instance.handle, instance, name)
