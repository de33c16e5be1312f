"""The requests of the oracle tests, as curl and the usual libraries send them.

A case is one exchange, or several on the same server: one after the other, or all at once. What the
real TorchServe answered lies in tests/oracle/recordings, under the case's name.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from support.wire import multipart

JSON = "application/json"
TEXT = "text/plain"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR not a picture \x00\xff"


@dataclasses.dataclass(frozen=True)
class Request:
    """One request; see `wire.encode`."""

    path: str
    body: Any = b""
    content_type: str = ""
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Case:
    """What is sent, and how the answers are held against TorchServe's.

    Attributes:
        together: send all requests at once; the answers are compared in the order of the requests.
        numbers: numbers in JSON answers may differ in the last digits, as they do between machines.
        differs: the difference of docs/torchserve.md that is meant to show, by its id there.
        ours: then, what is answered instead, for each request; see `oracle_exchange.Answer`. What is not
            named is not compared.
        needs: a module that the handler imports and that not everybody has installed.
    """

    group: str
    name: str
    requests: tuple[Request, ...]
    together: bool = False
    numbers: bool = False
    differs: str = ""
    ours: tuple[dict[str, Any], ...] = ()
    needs: str = ""


CASES: list[Case] = []

# What kills a worker of TorchServe is an answer or an error of one request here.
LIVES = {"differs": "worker-death"}


def add(group: str, name: str, *requests: Request, **options: Any) -> None:
    """Put a case on the list."""
    CASES.append(Case(group, name, requests, **options))


def predict(model: str, body: Any = b"", content_type: str = "", **options: Any) -> Request:
    """Return a request for a prediction; `model` may go on with a version and more."""
    return Request(f"/predictions/{model}", body, content_type, **options)


def form(*parts: tuple[str, bytes, str | None, str | None]) -> dict[str, Any]:
    """Return body and content type of a form; see `wire.multipart`."""
    body, content_type = multipart(*parts)
    return {"body": body, "content_type": content_type}


def error(code: int, message: str, kind: str = "InternalServerException") -> str:
    """Return TorchServe's error body."""
    return json.dumps({"code": code, "type": kind, "message": message}, indent=2) + "\n"


def _probe() -> None:
    """What the handler sees."""

    def probe(name: str, path: str = "/predictions/probe", **options: Any) -> None:
        compared = {key: options.pop(key) for key in ("differs", "ours") if key in options}
        add("plain", f"probe {name}", Request(path, **options), **compared)

    probe("no body", method="GET")
    probe("delete", method="DELETE")
    probe("post without a body")
    probe("bytes", body=PNG)
    probe("put", body=PNG, method="PUT", headers=(("Expect", "100-continue"),))
    probe("octets", body=PNG, content_type="application/octet-stream")
    probe("image", body=PNG, content_type="image/png")
    probe("json", body={"a": [1, 2.5, None, True, "ü"]})
    probe("json charset", body='{"a": "ü"}', content_type="application/json; charset=utf-8")
    probe("json upper case", body="[1]", content_type="Application/JSON")
    probe("json suffix", body="[1]", content_type="application/x+json")
    probe("json invalid", body='{"a": ', content_type=JSON)
    probe("json empty", body=b"", content_type=JSON)
    probe("json nan", body='{"a": NaN, "b": -Infinity}', content_type=JSON)
    probe("json big number", body='{"a": 123456789012345678901234567890, "b": 1e400}', content_type=JSON)
    probe("json duplicate keys", body='{"a": 1, "a": 2}', content_type=JSON)
    probe("json bom", body=b"\xef\xbb\xbf[1]", content_type=JSON)
    probe("json utf-16", body='["ü"]'.encode("utf-16"), content_type=JSON)
    probe("json surrogate", body='["\\ud83d\\ude00"]', content_type=JSON)
    probe("text", body="Zürich", content_type=TEXT)
    probe("text charset", body="Zürich".encode("latin-1"), content_type="text/plain; charset=latin-1")
    probe("text invalid", body=b"\xff\xfe", content_type="text/csv")
    probe("html", body="<p>", content_type="text/html; charset=utf-8")
    probe("form file", **form(("data", PNG, "kitten.png", "image/png")))
    probe("form file without type", **form(("data", PNG, "kitten.png", None)))
    probe("form json file", **form(("data", b'{"a": 1}', "a.json", JSON)))
    probe("form text file", **form(("data", b"hello", "a.txt", "text/plain; charset=utf-8")))
    probe("form text field", **form(("note", "Zürich".encode(), None, None)))
    probe("form typed field", **form(("meta", b'{"a": 1}', None, JSON)))
    probe(
        "form twice",
        **form(
            ("data", PNG, "kitten.png", "image/png"),
            ("target", b"3", None, None),
            ("meta", b"[1]", "m.json", JSON),
        ),
    )
    probe("form repeated", **form(("a", b"1", None, None), ("b", b"2", None, None), ("a", b"3", None, None)))
    probe("form empty", **form())
    probe("form empty value", **form(("a", b"", None, None)))
    probe("form empty file", **form(("a", b"", "empty.bin", None)))
    probe("form broken", body=b"no parts", content_type="multipart/form-data; boundary=xyz")
    probe("form without boundary", body=b"raw", content_type="multipart/form-data")
    probe(
        "form quoted boundary",
        body=form(("a", b"1", None, None))["body"],
        content_type='multipart/form-data; boundary="XbOuNdArYX"',
    )
    probe("form unicode name", **form(("größe", b"1", None, None)))
    urlencoded = "application/x-www-form-urlencoded"
    probe("urlencoded", body="a=1&b=two+words&c=%C3%BC%26&a=last", content_type=urlencoded)
    probe("urlencoded blank", body="a=&c=d", content_type=urlencoded)
    probe("urlencoded no value", body="b&c=d", content_type=urlencoded)
    probe("urlencoded last without value", body="c=d&b", content_type=urlencoded)
    probe("urlencoded trailing", body="a=1&b=2&", content_type=urlencoded)
    probe(
        "urlencoded nameless",
        body="a=b&=c",
        content_type=urlencoded,
        differs="nameless-field",
        ours=({"status": 200},),
    )
    probe("urlencoded charset", body="a=%C3%BC", content_type=urlencoded + "; charset=UTF-8")
    probe("urlencoded json", body='{"instances": [1]}', content_type=urlencoded)
    probe("urlencoded json with equals", body='{"a": "b=c&d"}', content_type=urlencoded)
    probe("query is dropped", "/predictions/probe?a=1&b=2", body=b"x")
    probe("explain", "/explanations/probe", body=b"x")
    probe("explain version", "/explanations/probe/1.0", body=b"x")
    probe("version", "/predictions/probe/1.0", body=b"x")
    probe("url path", "/predictions/probe/1.0/a/b%20c", body=b"x")
    probe("url path with query", "/predictions/probe/1.0/v1/chat?stream=true", body=b"x")
    probe("trailing slash", "/predictions/probe/", body=b"x")
    probe("encoded path", "/predictions/pro%62e", body=b"x")
    probe("legacy", "/probe/predict?a=1&b=two%20words", body=b"x")
    probe("legacy get", "/probe/predict?a=1&a=2", method="GET")
    probe("legacy version", "/probe/1.0/predict?a=1", body={"b": 1})
    probe("legacy form", "/probe/predict?a=1", **form(("b", b"2", None, None)))
    probe("sagemaker", "/invocations?model_name=probe&x=1", body={"a": 1})
    probe("invoke", "/models/probe/invoke?x=1", body=b"x")
    probe(
        "v1 route",
        "/v1/models/probe:predict",
        body={"instances": [1]},
        differs="v1-route",
        ours=({"status": 200, "phrase": "OK", "headers": [["content-type", "application/json"]]},),
    )
    probe(
        "header names",
        body=b"x",
        headers=(
            ("X-One", "1"),
            ("x-two", "a, b"),
            ("X-Rep", "first"),
            ("X-Rep", "last"),
            ("Accept", "*/*"),
            ("User-Agent", "curl/8.5.0"),
            ("Authorization", "Bearer token"),
            ("Cookie", "a=b; c=d"),
        ),
    )
    probe("header explain", body=b"x", headers=(("explain", "True"), ("url_path", "mine")))
    probe("gzip is not decoded", body=b"\x1f\x8b\x08raw", headers=(("Content-Encoding", "gzip"),))
    probe("chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", headers=(("Transfer-Encoding", "chunked"),))
    for topic in ("context", "process", "base"):
        probe(f"ask {topic}", **form(("ask", topic.encode(), None, None)))


def _simple() -> None:
    """The forms of entry points."""
    for model in ("module", "function", "classic"):
        add("plain", f"{model} json", predict(model, [1, 2, 3]))
        add("plain", f"{model} bytes", predict(model, b"[4, 5]"))
        add("plain", f"{model} nothing", predict(model, method="GET"))
        add("plain", f"{model} explain", Request(f"/explanations/{model}", [1, 2, 3]))
    add("plain", "unknown model", predict("nope", b"x"))
    add("plain", "unknown version", predict("module/9.9", b"x"))
    add("plain", "module not json", predict("module", b"not json"))


_ANSWERS = (
    "bytes, bytearray, memoryview, str, empty, empty bytes, unicode, surrogate, int, big, float, nan, inf, "
    "none, true, list, nested, tuple, int keys, named, enum, empty dict, empty list, numpy float, float32, "
    "numpy int, numpy array, numpy bool, set, tensor in dict, bytes in dict, date, decimal, tuple keys, "
    "generator, unknown"
)


def _answers() -> None:
    """What a handler may return, and what it may not."""
    for kind in _ANSWERS.split(", "):
        if kind != "surrogate":
            add("plain", f"answer {kind}", predict("answers", kind, TEXT))
    unsupported = {"status": 503, "body": error(503, "Unsupported model output data type.")}
    add("plain", "answer surrogate", predict("answers", "surrogate", TEXT), ours=(unsupported,), **LIVES)
    add("plain", "answer head", predict("answers", "nested", TEXT, method="HEAD"))


def _statuses() -> None:
    """Statuses, phrases and headers of the handler's."""

    def orders(name: str, *values: list[Any], **options: Any) -> None:
        add("plain", f"status {name}", predict("statuses", list(values)), **options)

    for code in (200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 413, 418, 422, 429, 499, 500, 503, 599):
        orders(f"{code}", ["status", code])
    orders("phrase", ["phrase", 201, "Made"])
    orders("phrase of an error", ["phrase", 404, "No such cat"])
    orders("phrase empty", ["phrase", 400, ""])
    orders("phrase 200", ["phrase", 200, "Fine"])
    orders("all", ["all", 202, "For all"])
    orders("all default", ["all"])
    orders("body of an error", ["status", 422], ["answer", {"error": "not a cat"}])
    orders("header", ["header", "X-Model", "cat"], ["header", "x-other", "1"])
    orders("header twice", ["header", "X-Model", "cat"], ["header", "X-Model", "dog"])
    orders("header cases", ["header", "X-Model", "cat"], ["header", "x-model", "dog"])
    numbers = (["header", "X-Number", 5], ["header", "X-Float", 1.5], ["header", "X-True", True])
    sent = [["x-float", "1.5"], ["x-number", "5"], ["x-true", "True"]]
    orders("header number", *numbers, ours=({"status": 200, "headers": sent},), **LIVES)
    orders("header none", ["header", "X-None", None], ours=({"status": 200, "body": "done"},), **LIVES)
    orders("header empty", ["header", "X-Empty", ""])
    orders("header unicode", ["header", "X-City", "Zürich"])
    done = {"status": 200, "body": "done"}
    injected = {**done, "headers": [["x-bad", "a  X-Injected: 1"]]}
    orders("header injection", ["header", "X-Bad", "a\r\nX-Injected: 1"], ours=(injected,), **LIVES)
    orders("header bad name", ["header", "X Bad Name", "a"], ours=(done,), **LIVES)
    orders("reserved headers", ["header", "content-length", "1"], ["header", "Connection", "close"])
    orders("reserved ids", ["header", "X-Request-Id", "mine"], ["header", "Cache-Control", "public"])
    orders("cookies", ["header", "Set-Cookie", "a=b; Path=/"])
    orders("content type", ["type", "application/json"], ["answer", {"a": 1}])
    orders("content type header", ["header", "Content-Type", "text/csv"], ["answer", "a,b"])
    orders("content type both", ["header", "Content-Type", "text/csv"], ["type", "text/html"])
    orders("read", ["phrase", 201, "Made"], ["header", "X-A", "b"], ["type", "text/plain"], ["read"])
    orders("read before", ["read"])
    orders("status text", ["status", "404"], ours=({"status": 404, "body": "done"},), **LIVES)
    orders("status float", ["status", 404.0], ours=({"status": 404, "body": "done"},), **LIVES)
    orders("status none", ["status", None], ours=(done,), **LIVES)
    for code in (0, 100, 999):
        orders(f"status {code}", ["status", code], ours=(done,), differs="odd-status")
    injected = {**done, "phrase": "OK  X-Injected: 1"}
    orders("phrase injection", ["phrase", 200, "OK\r\nX-Injected: 1"], ours=(injected,), **LIVES)
    orders("phrase unicode", ["phrase", 200, "Zürich"], ours=({**done, "phrase": "Zürich"},), **LIVES)


_FAILURES = (
    "raise, odd, key, assert, memory, cuda, cuda error, oom, shape, exception, none, dict, str, tuple, "
    "too few, too many, tensor, ok, unknown"
)


def _failures() -> None:
    """Failing handlers."""
    for kind in _FAILURES.split(", "):
        add("plain", f"failing {kind}", predict("failing", kind, TEXT))
    for arguments in (["no cat", 404], ["teapot", 418], ["bad", 502], ["odd", 599], ["Zürich\n2"]):
        add("plain", f"exception {arguments[0]}", predict("failing", arguments))
        add("plain", f"exception {arguments[0]} in a function", predict("failing_module", arguments))
    for arguments in (["ok?", 200], ["zero", 0]):
        answer = {"status": 500, "body": error(500, arguments[0])}
        add(
            "plain",
            f"exception {arguments[0]}",
            predict("failing", arguments),
            differs="odd-status",
            ours=(answer,),
        )
    add("plain", "failing ok after", predict("failing", "raise", TEXT), predict("failing", "ok", TEXT))


for _make in (_probe, _simple, _answers, _statuses, _failures):
    _make()

assert len({case.name for case in CASES}) == len(CASES), "two cases have the same name"


def dump(value: Any) -> bytes:
    """Return JSON without the white space, as JavaScript writes it."""
    return json.dumps(value, separators=(",", ":")).encode()
