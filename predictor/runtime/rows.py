"""TorchServe's rules for turning one HTTP body into the row that a handler receives.

The source is a running TorchServe 0.12; `tests/oracle` holds its answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from predictor.ipc.messages import InferenceRequest

# Parts in one form, at most: beyond this the form is an attack, not a request.
_MAX_PARTS = 1000
# Of a file in a form that does not say what it is.
_FILE_TYPE = "application/octet-stream"

Row = dict[str, Any]


def decode_row(request: InferenceRequest, decode: bool = True) -> tuple[Row, dict[str, str]]:
    """Return the row for `request` and the content type of each of its keys ("" when it has none).

    A value is a `bytearray`, or a JSON value for `application/json`, or a `str` for `text/...`.

    Args:
        decode: False leaves everything a `bytearray` (TorchServe's `decode_input_request=false`).
    """
    media_type, parameters = _media_type(request.content_type)
    row: Row = {}
    types: dict[str, str] = {}
    for name, value in request.fields:
        row[name], types[name] = bytearray(value, "utf-8"), ""
    if media_type == "multipart/form-data" and parameters.get(b"boundary"):
        for name, data, part_type in _parts(request.body, parameters[b"boundary"]):
            row[name], types[name] = _value(data, part_type, decode), part_type
    elif media_type == "application/x-www-form-urlencoded":
        for name, text in _urlencoded(request.body):
            row[name], types[name] = bytearray(text, "utf-8", "surrogateescape"), ""
    else:
        row["body"], types["body"] = _value(request.body, media_type, decode), media_type
    return row, types


def request_headers(request: InferenceRequest, types: dict[str, str]) -> dict[str, Any]:
    """Return what `context.get_all_request_header` shows of `request`.

    Names keep the client's case and the last of repeated ones wins; `explain`, `url_path` and one
    entry for every data key are added as TorchServe does.
    """
    headers: dict[str, Any] = {key: {"content-type": value} for key, value in types.items()}
    has_length = False
    for name, value in request.headers:
        lower = name.lower()
        if lower in ("expect", "transfer-encoding"):
            continue
        has_length = has_length or lower == "content-length"
        headers[name] = value
    if not has_length:
        headers["content-length"] = str(len(request.body))
    if request.url_path is not None:
        headers["explain"] = str(request.verb.value == "explain")
        headers["url_path"] = request.url_path
    if request.verb.value == "describe":
        headers["describe"] = "True"
    return headers


def _media_type(content_type: str) -> tuple[str, dict[bytes, bytes]]:
    if not content_type:
        return "", {}
    media_type = content_type.partition(";")[0].strip()
    if not media_type.startswith("multipart/"):
        return media_type, {}
    _, parameters = parse_options_header(content_type)
    return media_type, parameters


def _value(data: bytes, content_type: str, decode: bool) -> Any:
    if not decode:
        return bytearray(data)
    try:
        if content_type == "application/json":
            # Decoded first: TorchServe reads UTF-8 only, and hands over UTF-16 or a byte order mark as bytes.
            return json.loads(data.decode("utf-8"))
        if content_type.startswith("text"):
            return data.decode("utf-8")
    except (ValueError, RecursionError):
        # TorchServe hands over what it cannot decode as bytes, and lets the handler judge.
        return bytearray(data)
    return bytearray(data)


def _urlencoded(body: bytes) -> Iterator[tuple[str, str]]:
    text = body.decode("utf-8", "surrogateescape")
    before, _, last = text.rpartition("&")
    if "=" not in last:
        # Netty, TorchServe's HTTP, takes a bare name for a field only when another one follows.
        text = before
    try:
        yield from parse_qsl(
            text, keep_blank_values=True, errors="surrogateescape", max_num_fields=_MAX_PARTS
        )
    except ValueError:
        return


def _parts(body: bytes, boundary: bytes) -> list[tuple[str, bytes, str]]:
    """Return name, data and content type of every part; none at all when the form is malformed.

    Only parts with a file name keep their content type: the others are plain fields.
    """
    collector = _PartCollector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError:
        return []
    return collector.parts


class _PartCollector:
    """Builds the list of parts from the parser's events."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, bytes, str]] = []
        self._field = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._data = bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_part_data": lambda data, start, end: self._data.extend(data[start:end]),
            "on_part_end": self._end,
        }

    def _begin(self) -> None:
        self._headers = {}
        self._data = bytearray()

    def _header_end(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name")
        if name is None or len(self.parts) >= _MAX_PARTS:
            return
        content_type = ""
        if b"filename" in options:
            raw = self._headers.get(b"content-type", b"").decode("latin-1")
            content_type = raw.partition(";")[0].strip() or _FILE_TYPE
        self.parts.append((name.decode("utf-8", "replace"), bytes(self._data), content_type))
