"""Strict check of manifests with nothing but the installed wheels.

The Python models of Kubernetes and KServe know every field and its type (`openapi_types`). A walk over a
manifest finds fields that do not exist and values of a wrong type. Schemas know more (ranges, required
fields of KServe's kinds): `cluster validate` uses those where it is at hand.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

_LIST = re.compile(r"[Ll]ist\[(.+)\]")
_MAP = re.compile(r"[Dd]ict[\[(]str, ?(.+)[\])]")
_SCALARS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "ResourceQuantity": (str, int, float),
    "V1beta1MetricQuantity": (str, int, float),
    "datetime": (str,),
}


@functools.cache
def _modules() -> tuple[Any, ...]:
    import sys

    # kserve parses the command line when it is imported.
    words, sys.argv = sys.argv, sys.argv[:1]
    try:
        from kserve import models
        from kubernetes import client
    finally:
        sys.argv = words
    return models, client


def problems(document: Any) -> list[str]:
    """Return what is wrong with a manifest, a line each."""
    if not isinstance(document, Mapping) or not {"apiVersion", "kind"} <= document.keys():
        return ["not a Kubernetes object: apiVersion and kind are required"]
    version = str(document["apiVersion"]).rpartition("/")[2]
    name = version.capitalize() + str(document["kind"])
    if _model(name) is None:
        return [f"{document['apiVersion']} {document['kind']}: no such kind"]
    found = list(_walk(document, name, ""))
    if not (document.get("metadata") or {}).get("name"):
        found.append("metadata.name: is required")
    return found


def _model(name: str) -> Any:
    """Return a class by name; KServe names some of Kubernetes' by their whole Go package."""
    short = re.sub(r"^K8sIoApi[A-Za-z]*?(?=V\d)", "", name)
    return next(
        (
            getattr(module, short)
            for module in _modules()
            if hasattr(getattr(module, short, None), "openapi_types")
        ),
        None,
    )


def _walk(value: Any, kind: str, path: str) -> Iterator[str]:
    if value is None or kind == "object":
        return
    if inner := _LIST.fullmatch(kind):
        if not isinstance(value, list):
            yield f"{path}: expected a list, got {type(value).__name__}"
            return
        for index, item in enumerate(value):
            yield from _walk(item, inner[1], f"{path}[{index}]")
    elif inner := _MAP.fullmatch(kind):
        if not isinstance(value, Mapping):
            yield f"{path}: expected a map, got {type(value).__name__}"
            return
        for key, item in value.items():
            yield from _walk(item, inner[1], f"{path}.{key}")
    elif kind in _SCALARS:
        wrong_bool = isinstance(value, bool) and kind != "bool"
        if not isinstance(value, _SCALARS[kind]) or wrong_bool:
            yield f"{path}: expected {kind}, got {value!r}"
    else:
        yield from _walk_model(value, kind, path)


def _walk_model(value: Any, kind: str, path: str) -> Iterator[str]:
    model = _model(kind)
    if model is None:
        yield f"{path}: no model of {kind} is known"
        return
    if not isinstance(value, Mapping):
        yield f"{path}: expected an object, got {value!r}"
        return
    fields = {field: model.openapi_types[attribute] for attribute, field in model.attribute_map.items()}
    for field, item in value.items():
        where = f"{path}.{field}" if path else str(field)
        if field not in fields:
            close = difflib.get_close_matches(str(field), fields, 1)
            yield f"{where}: unknown field{f', did you mean {close[0]}?' if close else ''}"
        else:
            yield from _walk(item, fields[field], where)
