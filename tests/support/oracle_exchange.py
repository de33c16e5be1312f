"""Sending a case to a server, and making the answers of two servers comparable."""

from __future__ import annotations

import base64
import json
import math
import re
import threading
from typing import Any

from support import wire
from support.oracle_cases import Case, Request

_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

Answer = dict[str, Any]
"""`status`, `phrase`, `headers` (sorted, names in lower case), `body` (text, or `base64`), `chunks`."""


def exchange(port: int, case: Case, timeout: float = 120.0) -> list[Answer]:
    """Send the requests of `case`, each on a connection of its own; returns their answers in order."""
    if not case.together:
        return [_send(port, request, timeout) for request in case.requests]
    answers: list[Answer] = [{} for _ in case.requests]

    def send(index: int, request: Request) -> None:
        answers[index] = _send(port, request, timeout)

    threads = [threading.Thread(target=send, args=pair) for pair in enumerate(case.requests)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def differences(case: Case, theirs: list[Answer], ours: list[Answer]) -> list[str]:
    """Return what differs, a line each; nothing when the answers are the same.

    Where the case differs on purpose, only what it expects instead is compared.
    """
    found = []
    expectations = case.ours if case.differs else theirs
    for number, (expected, got) in enumerate(zip(expectations, ours, strict=True)):
        keys = sorted(expected) if case.differs else sorted({*expected, *got})
        found += [
            f"{number}.{key}: expected {expected.get(key)!r}\n   got {got.get(key)!r}"
            for key in keys
            if not _equal(case, key, expected.get(key), got.get(key))
        ]
    return found


def _send(port: int, request: Request, timeout: float) -> Answer:
    try:
        response = wire.request(
            port,
            request.method,
            request.path,
            body=request.body,
            headers=request.headers,
            content_type=request.content_type,
            timeout=timeout,
        )
    except (OSError, AssertionError) as error:
        return {"error": type(error).__name__}
    answer: Answer = {
        "status": response.status,
        "phrase": response.phrase,
        "headers": sorted([name.lower(), _mask_text(value)] for name, value in response.headers),
        **_body(response.body),
    }
    if response.chunks is not None:
        answer["chunks"] = [_body(chunk) for chunk in response.chunks]
    if response.interim:
        answer["interim"] = response.interim
    return answer


def _body(data: bytes) -> dict[str, str]:
    data = _UUID.sub(b"<uuid>", data)
    try:
        return {"body": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _mask_text(text: str) -> str:
    return _UUID.sub(b"<uuid>", text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _equal(case: Case, key: str, expected: Any, got: Any) -> bool:
    if expected == got:
        return True
    if expected is None or got is None:
        return False
    if key == "headers" and case.differs:
        return all(list(item) in got for item in expected)
    if not case.numbers:
        return False
    if key == "headers":
        return _without_length(expected) == _without_length(got)
    try:
        return key == "body" and _same_numbers(json.loads(expected), json.loads(got))
    except ValueError:
        return False


def _without_length(headers: list[list[str]]) -> list[list[str]]:
    return [item for item in headers if item[0] != "content-length"]


def _same_numbers(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same_numbers(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same_numbers, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
    return type(one) is type(other) and bool(one == other)
