"""CloudEvents around V1: an event in, an event out, in the form in which it came (CloudEvents 1.0, HTTP).

Binary: the attributes are headers `ce-...`, the body is V1's, or one instance of any other media type.
Structured: the body is a JSON object of the attributes with V1's document as `data`, or as base64 in
`data_base64`. The answer's `type` and `source`, and the environment variables that change them, are those of
KServe's SDK.
"""

from __future__ import annotations

import base64
import datetime as dt
import os
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

import orjson

from predictor.errors import InvalidInput
from predictor.ipc.messages import InferenceRequest
from predictor.oip.media import is_json, media_type_of
from predictor.runtime.json_text import load_json

STRUCTURED_TYPE = "application/cloudevents+json"

Headers = list[tuple[str, str]]

_PREFIX = "ce-"
_REQUIRED = ("specversion", "id", "source", "type")
_SPEC_VERSIONS = ("1.0", "0.3")
_DATA = ("data", "data_base64")
# What a header may hold unquoted: printable ASCII without space, quotes and percent signs.
_SAFE = "!#$&'()*+,/:;<=>?@[\\]^`{|}"


class Event:
    """What a client's event says beside its data, which decides the form of the answer.

    Attributes:
        structured: it came as one JSON document, and is answered as one.
        attributes: all of them, extensions included.
    """

    __slots__ = ("attributes", "structured")

    def __init__(self, attributes: Mapping[str, Any], structured: bool) -> None:
        """Keep the attributes.

        Raises:
            InvalidInput: one that every event has is missing, or the version is unknown.
        """
        for name in _REQUIRED:
            if not isinstance(attributes.get(name), str) or not attributes[name]:
                raise InvalidInput(f"Invalid CloudEvent: '{name}' is missing or no string")
        version = attributes["specversion"]
        if version not in _SPEC_VERSIONS:
            raise InvalidInput(f"Invalid CloudEvent: unknown specversion '{version}'")
        self.attributes = attributes
        self.structured = structured

    @property
    def holds_json(self) -> bool:
        """Whether the data are JSON, as they are unless the event says otherwise."""
        # KServe's producers and the SDK write an attribute `content-type`, which the standard does not know.
        media_type = self.attributes.get("content-type") or self.attributes.get("datacontenttype") or ""
        return is_json(media_type)

    def wrap(self, model: str, body: bytes, headers: Headers) -> tuple[bytes, Headers]:
        """Return the event that carries an answer of `model`: its body and its headers."""
        attributes = self._answer(model)
        if not self.structured:
            return body, [*headers, *((_PREFIX + name, _quoted(value)) for name, value in attributes.items())]
        content_type = next((value for name, value in headers if name == "content-type"), "")
        if content_type == "application/json":
            attributes["data"] = orjson.Fragment(body)
        else:
            attributes["datacontenttype"] = content_type or "application/octet-stream"
            attributes["data_base64"] = base64.b64encode(body).decode("ascii")
        rest = [(name, value) for name, value in headers if name != "content-type"]
        return orjson.dumps(attributes), [("content-type", STRUCTURED_TYPE), *rest]

    def _answer(self, model: str) -> dict[str, Any]:
        """Return the answer's attributes; with CE_MERGE the client's own come back among them."""
        merged: dict[str, Any] = {}
        if os.environ.get("CE_MERGE", "false").lower() == "true":
            merged.update(self.attributes)
            merged.pop("datacontenttype", None)
        return merged | {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": os.environ.get("CE_SOURCE", f"io.kserve.inference.{model}"),
            "type": os.environ.get("CE_TYPE", "io.kserve.inference.response"),
            "time": dt.datetime.now(dt.timezone.utc).isoformat(),
        }


def binary_event(request: InferenceRequest) -> Event | None:
    """Return the event that the headers of a request declare, None if they declare none.

    Raises:
        InvalidInput: its version is unknown.
    """
    found = {
        name[len(_PREFIX) :].lower(): unquote(value)
        for name, value in request.headers
        if name[: len(_PREFIX)].lower() == _PREFIX
    }
    # As the SDK: fewer than all four are some other software's headers.
    if not all(name in found for name in _REQUIRED):
        return None
    if request.content_type:
        found["datacontenttype"] = request.content_type
    return Event(found, structured=False)


def structured_event(request: InferenceRequest, document: Any) -> tuple[Event | None, Any]:
    """Return the event that a JSON body is, and the V1 document in it; None and the body if it is none.

    A body that looks like an event in every respect but its content type is unwrapped, too, and answered
    plainly, as the SDK does.

    Raises:
        InvalidInput: the content type says that it is an event, and it is not.
    """
    declared = media_type_of(request.content_type) == STRUCTURED_TYPE
    if not declared:
        looks_like_one = isinstance(document, dict) and {*_REQUIRED, "time", "data"} <= document.keys()
        return None, document["data"] if looks_like_one else document
    if not isinstance(document, dict):
        raise InvalidInput("Invalid CloudEvent: the body must be a JSON object")
    attributes = {name: value for name, value in document.items() if name not in _DATA}
    return Event(attributes, structured=True), _data(document)


def _data(document: Mapping[str, Any]) -> Any:
    if "data" in document:
        return document["data"]
    text = document.get("data_base64")
    if not isinstance(text, str):
        raise InvalidInput("Invalid CloudEvent: it has neither 'data' nor 'data_base64'")
    try:
        return load_json(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise InvalidInput(f"Invalid CloudEvent: 'data_base64' is not base64: {error}") from error


def _quoted(value: Any) -> str:
    return quote(value if isinstance(value, str) else str(value), safe=_SAFE)
