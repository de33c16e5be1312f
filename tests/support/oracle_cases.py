"""The requests of the oracle tests, as curl and the usual libraries send them.

A case is one exchange, or several on the same server: one after the other, or all at once. What the
real TorchServe answered lies in tests/oracle/recordings, under the case's name.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from typing import Any

from PIL import Image

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


def model_of(request: Request) -> str:
    """Return the name of the model that a request is for."""
    first, *rest = request.path.partition("?")[0].strip("/").split("/")
    return rest[0] if first in ("predictions", "explanations") else first


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


def dump(value: Any) -> bytes:
    """Return JSON without the white space, as JavaScript writes it."""
    return json.dumps(value, separators=(",", ":")).encode()


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


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    """Return a picture with a colour gradient."""
    width, height = size
    red = Image.linear_gradient("L").resize(size)
    image = Image.merge("RGB", (red, red.rotate(180), Image.new("L", size, 90)))
    image.paste((250, 10, 30), (width // 2, 0, width, height // 2))
    if mode == "RGBA":
        image.putalpha(red)
    stream = io.BytesIO()
    image.convert(mode).save(stream, kind)
    return stream.getvalue()


def b64(data: bytes) -> str:
    """Return `data` in base64."""
    return base64.b64encode(data).decode()


def _handlers() -> None:
    """Handlers as users write them."""

    def ask(model: str, name: str, *requests: Request, **options: Any) -> None:
        add("plain", f"{model} {name}", *requests, **options)

    ask("packaged", "answer", predict("packaged", b"abc"))
    ask("configured", "answer", predict("configured", b""))
    for what in [
        "usual",
        "by_name",
        "cached",
        "predefined",
        "missing",
        "wrong_type",
        "wrong_dimensions",
        "no_dimensions",
        "negative",
        "text",
        "error_text",
        "bad_unit",
        "bad_size_unit",
        "bad_dimensions",
        "no_name",
        "cache_twice",
        "emit",
    ]:
        ask("metering", what, predict("metering", what, TEXT), **_texts(what))
    for what in ["cwd", "threads", "daemon", "program", "shell", "flood", "closed", "cwd"]:
        name = what if not any(case.name == f"chatty {what}" for case in CASES) else f"{what} again"
        ask("chatty", name, predict("chatty", what, TEXT))
    ask("cached", "first and second", predict("cached", "a b c", TEXT), predict("cached", "a b c", TEXT))
    ask("cached", "form", predict("cached", **form(("data", b"c c c c c c", None, None))))
    ask("cached", "json", predict("cached", {"text": "b x b"}))
    ask("wants_more", "answer", predict("wants_more", b""))
    for version in ("1.0", "2.0", "10.0-beta", "3.0"):
        ask("versioned", version, predict(f"versioned/{version}", b"x"))
    ask("versioned", "explain", Request("/explanations/versioned/2.0", b"x"))
    ask("versioned", "legacy", Request("/versioned/2.0/predict", b"x"))
    ask("profiled", "answer", predict("profiled", b"abc"))
    ask("odd name", "answer", predict("name.with-odd_chars", b"x"))
    for what in [
        "strings",
        "lists",
        "objects",
        "mapping_list",
        "mapping_numbers",
        "mapping_missing",
        "labels",
        "labels_bare",
        "labels_no_list",
        "labels_bad_mapping",
        "labels_unknown",
        "backends",
        "yaml",
        "yaml_missing",
        "classes",
        "import_class",
        "import_nothing",
        "regex",
        "exception",
        "mock",
        "version",
    ]:
        ask("utilities", what, predict("utilities", what, TEXT), **_texts(what))


def _texts(what: str) -> dict[str, Any]:
    """Return the options of a helper whose exception has another text here."""
    other = ("bad_unit", "bad_size_unit", "labels_no_list", "labels_bad_mapping", "import_nothing")
    return {"differs": "error-texts", "ours": ({"status": 200},)} if what in other else {}


def _models() -> None:
    """Handlers with networks: what is computed, not only what is passed on."""

    def ask(model: str, name: str, request: Request, **options: Any) -> None:
        add("models", f"{model} {name}", request, numbers=True, **options)

    four = [1.0, 2, 3.5, -4]
    ask("eager", "json", predict("eager", four))
    ask("eager", "wrong length", predict("eager", [1, 2]))
    ask("eager", "nothing", predict("eager"))
    ask("scripted", "json", predict("scripted", four))
    ask("scripted", "object", predict("scripted", {"values": four}))
    ask("scripted", "insights", Request("/explanations/scripted", {"values": four}))
    ask(
        "scripted",
        "insights target in values",
        Request("/explanations/scripted", {"values": four, "target": 2}),
    )
    ask("scripted", "describe", predict("scripted", four, headers=(("describe", "True"),)))
    ask(
        "scripted",
        "insights target as form field",
        Request(
            "/explanations/scripted",
            **form(("data", dump(four), "v.json", JSON), ("target", b"1", None, None)),
        ),
        differs="explain-target",
        ours=({"status": 200},),
    )
    ask(
        "scripted",
        "insights target as json part",
        Request(
            "/explanations/scripted",
            **form(("data", dump(four), "v.json", JSON), ("target", b"2", "t", JSON)),
        ),
    )
    small = picture(size=(12, 10))
    for model in ("classifier", "classifier_lists", "classifier_objects", "classifier_bare"):
        ask(model, "upload", predict(model, picture(), method="PUT", headers=(("Expect", "100-continue"),)))
    ask("classifier", "form", predict("classifier", **form(("data", picture(), "kitten.png", "image/png"))))
    ask(
        "classifier",
        "form field body",
        predict("classifier", **form(("body", picture(), "k.png", "image/png"))),
    )
    ask(
        "classifier",
        "form other name",
        predict("classifier", **form(("image", picture(), "k.png", "image/png"))),
    )
    ask("classifier", "base64 in json", predict("classifier", json.dumps(b64(picture())), JSON))
    ask("classifier", "base64 as text", predict("classifier", b64(picture()), TEXT))
    ask(
        "classifier",
        "base64 field",
        predict("classifier", **form(("data", b64(picture()).encode(), "a", TEXT))),
    )
    ask("classifier", "nested list", predict("classifier", [[[0.5] * 4] * 4] * 3))
    ask("classifier", "object", predict("classifier", {"data": b64(picture())}))
    ask(
        "classifier",
        "b64 object",
        predict("classifier", {"b64": b64(picture())}),
        differs="b64",
        ours=({"status": 200},),
    )
    ask("classifier", "not a picture", predict("classifier", b"not a picture"))
    ask("classifier", "empty", predict("classifier"))
    ask("classifier", "cut picture", predict("classifier", picture()[:-200]))
    fine = {"status": 200, "phrase": ""}
    for mode, kind in (
        ("L", "PNG"),
        ("1", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "GIF"),
        ("CMYK", "TIFF"),
    ):
        request = predict("classifier", picture(mode, kind=kind))
        ask("classifier", f"{mode} {kind}", request, differs="any-colours", ours=(fine,))
    for size in ((300, 500), (1, 1), (224, 224), (257, 256)):
        ask("classifier", f"{size[0]}x{size[1]}", predict("classifier", picture(size=size)))
    ask("segmenter", "upload", predict("segmenter", picture()))
    ask("segmenter", "base64", predict("segmenter", json.dumps(b64(picture())), JSON))
    ask("detector", "upload", predict("detector", picture()))
    ask("detector", "grey", predict("detector", picture("L")))
    ask("detector", "not a picture", predict("detector", b"x"))
    for name, text in (
        ("sentence", "The cat sat."),
        ("contraction", "It isn't <b>good</b>!"),
        ("unknown", "dog"),
    ):
        ask("texter", name, predict("texter", text, TEXT))
    ask("texter", "upload", predict("texter", b"The cat sat on the mat."))
    ask("texter", "form", predict("texter", **form(("data", b"the cat", "t.txt", TEXT))))
    ask("texter", "accents", predict("texter", "thé cät", TEXT))
    ask("texter", "json", predict("texter", {"data": "the cat"}))
    ask("texter", "explain", Request("/explanations/texter", "the cat sat", TEXT))
    ask("digits", "upload", predict("digits", picture("L")), needs="torchvision")
    ask("digits", "colour", predict("digits", picture()), needs="torchvision")
    ask("digits_plain", "upload", predict("digits_plain", small))
    ask("digits_plain", "base64", predict("digits_plain", json.dumps(b64(small)), JSON))
    ask("digits_plain", "list", predict("digits_plain", [[[0.25] * 8] * 8]))
    ask("digits_plain", "explain", Request("/explanations/digits_plain", small))
    ask(
        "digits_plain",
        "explain target in json",
        Request("/explanations/digits_plain", {"data": b64(small), "target": 3}),
    )
    ask(
        "digits_plain",
        "explain json parts",
        Request(
            "/explanations/digits_plain",
            **form(("data", small, "a.png", "image/png"), ("target", b"3", "t.json", JSON)),
        ),
    )


def _dying() -> None:
    """What ends a worker, and that the next request is answered."""

    def ask(kind: str, **options: Any) -> None:
        alive = predict("dying", "alive", TEXT)
        add("models", f"dying {kind}", predict("dying", kind, TEXT), alive, **options)

    alive = {"status": 200, "body": "alive"}
    ask("alive")
    ask("_exit")
    ask("kill")
    ask("loop")
    failed = {"status": 503, "body": error(503, "Prediction failed")}
    ask("exit", ours=(failed, alive), **LIVES)
    ask("keyboard", ours=(failed, alive), **LIVES)
    ask("long", ours=({"status": 500}, alive), differs="large-response")
    refused = {
        "status": 413,
        "phrase": "Request Entity Too Large",
        "body": "",
        "headers": [["connection", "close"]],
    }
    add(
        "models",
        "dying large request",
        predict("dying", b"x" * 7_000_000),
        differs="large-request",
        ours=(refused,),
    )


def _batched() -> None:
    """Batches, streams, sequences."""

    def together(name: str, *orders: dict[str, Any], model: str = "batching", **options: Any) -> None:
        requests = [
            predict(model, {"me": number, **order}, headers=(("X-Me", f"n{number}"),))
            for number, order in enumerate(orders)
        ]
        add("models", f"batch {name}", *requests, together=True, **options)

    fails = {"status": 503, "body": error(503, "Prediction failed")}
    fine = {"status": 200}
    together("of four", {}, {}, {}, {})
    together(
        "statuses", {"status": 201, "phrase": "Made"}, {"status": 404}, {"header": "x"}, {"type": "text/html"}
    )
    together("answers", {"answer": "bytes"}, {"answer": "none"}, {"answer": "tensor"}, {})
    together(
        "one raises", {}, {"raise": True}, {}, {}, differs="batch-failure", ours=(fine, fails, fine, fine)
    )
    unsupported = {"status": 503, "body": error(503, "Unsupported model output data type.")}
    together(
        "one cannot be sent",
        {},
        {},
        {"answer": "set"},
        {},
        differs="batch-failure",
        ours=(fine, fine, unsupported, fine),
    )
    add("models", "batch of one", predict("batching", {"me": 1}))
    add(
        "models",
        "batch with an explanation",
        *(
            Request(f"/{verb}/batching", {"me": number})
            for number, verb in enumerate(("predictions", "explanations", "predictions", "explanations"))
        ),
        together=True,
        differs="verbs-apart",
        ours=({"status": 200},) * 4,
    )
    add(
        "models",
        "micro of four",
        *(predict("micro", n) for n in range(4)),
        together=True,
        differs="",
        numbers=True,
    )
    add("models", "micro of one", predict("micro", 5))

    def stream(name: str, **order: Any) -> None:
        options = {key: order.pop(key) for key in ("differs", "ours") if key in order}
        add("models", f"stream {name}", predict("streaming", order), **options)

    stream("text", parts=["one ", "two "], last="three")
    stream("nothing sent before", parts=[], last="only")
    stream("kinds", parts=[{"a": 1}, 5, None, "ü"], last="end", json=True)
    stream("headers", parts=["a"], last="b", headers=[["X-Model", "cat"]], type="text/event-stream")
    stream("status", parts=["a"], last="b", status=201, phrase="Made")
    stream("empty part", parts=["a", "", "b"], last="")
    stream("fails at once", parts=[], last="", fail=True)
    ids = "ts_request_sequence_id", "ts_request_sequence_start", "ts_request_sequence_end"

    def number(value: int, *headers: tuple[str, str]) -> Request:
        return predict("stateful", str(value).encode(), headers=headers)

    one = (ids[0], "one")
    add(
        "models",
        "sequence",
        number(1, one, (ids[1], "True")),
        number(2, one),
        number(3, one, (ids[2], "True")),
    )
    two = (ids[0], "two")
    add("models", "sequence again", number(1, two, (ids[1], "true")), number(2, two, (ids[2], "true")))
    add("models", "sequence without an id", number(7), number(8))
    one = {"status": 200, "body": "1 "}
    add("models", "continuous 1", predict("continuous", {"limit": 1}), differs="continuous-one", ours=(one,))
    add("models", "continuous 3", predict("continuous", {"limit": 3}))
    add("models", "continuous json", predict("continuous", {"limit": 2, "json": True}))


def _enveloped() -> None:
    """The envelopes, each over the same requests."""
    four = [1.0, 2.0, 3.5, -4.0]
    v2 = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": four}
    bodies: dict[str, Any] = {
        "instances": {"instances": [four, [0, 0, 0, 0]]},
        "instances of data": {"instances": [{"data": four}]},
        "instances of pictures": {"instances": [{"data": b64(picture())}]},
        "instances of b64": {"instances": [{"b64": b64(b"bytes")}]},
        "instances of image b64": {"instances": [{"image": {"b64": b64(b"bytes")}}]},
        "one instance": {"instances": ["text"]},
        "no instances": {"instances": []},
        "targets": {"instances": [{"data": four, "target": 1}]},
        "inputs": {"inputs": [v2]},
        "inputs and id": {"id": "mine", "inputs": [v2, {**v2, "name": "y", "shape": [4]}]},
        "bytes input": {
            "inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [b64(picture())]}]
        },
        "uint8 input": {
            "inputs": [{"name": "x", "shape": [2, 2], "datatype": "UINT8", "data": [1, 2, 3, 4]}]
        },
        "parameters": {"id": "p", "parameters": {"a": 1}, "inputs": [{**v2, "parameters": {"b": 2}}]},
        "plain list": four,
        "other object": {"other": 1},
        "text answer": {"instances": ["answer str"], "inputs": [{**v2, "name": "answer str"}]},
        "number answer": {"instances": ["answer numbers"], "inputs": [{**v2, "name": "answer numbers"}]},
        "bytes answer": {"instances": ["answer bytes"], "inputs": [{**v2, "name": "answer bytes"}]},
        "short answer": {"instances": ["answer short"], "inputs": [{**v2, "name": "answer short"}]},
        "raises": {"instances": ["raise"], "inputs": [{**v2, "name": "raise"}]},
        "status": {"instances": ["status 418"], "inputs": [{**v2, "name": "status 418"}]},
        "two": {"instances": ["a", "b"], "inputs": [v2, v2]},
    }
    for group in ("body", "json", "kserve", "kservev2"):

        def ask(name: str, *requests: Request, group: str = group, **options: Any) -> None:
            add(group, f"{group}: {name}", *requests, **{"numbers": True, **options})

        for name, body in bodies.items():
            ask(name, predict("rows", body), **_enveloped_otherwise(group, name))
        ask("raw bytes", predict("rows", b"bytes"))
        ask("text", predict("rows", "text", TEXT))
        ask("form", predict("rows", **form(("data", dump(bodies["instances"]), "a.json", JSON))))
        ask("form field", predict("rows", **form(("data", b"field", None, None))))
        untyped = predict("rows", dump(bodies["instances"]))
        ask("without content type", untyped, **_enveloped_otherwise(group, "without content type"))
        ask("explain", Request("/explanations/rows", bodies["one instance"]))
        if group == "kserve":
            rows = [{"row": "text", "type": "str", "rows": 1, "explain": "False"}]
            answer = {"status": 200, "phrase": "OK", "body": dump({"predictions": rows}).decode()}
            request = Request("/v1/models/rows:predict", bodies["one instance"])
            ask("v1 route", request, differs="v1-route", ours=(answer,))
        if group == "kservev2":
            answer = {"status": 200, "phrase": "OK", "headers": [["content-type", JSON]]}
            ask(
                "v2 route",
                Request("/v2/models/rows/infer", bodies["inputs"]),
                differs="v1-route",
                ours=(answer,),
            )
        # Models that one envelope is not meant for tell nothing, and cost the start of a worker.
        if group in ("json", "kserve"):
            ask("numbers", predict("numbers", bodies["instances"]))
        if group in ("body", "kserve", "kservev2"):
            ask("pictures", predict("pictures", bodies["instances of pictures"]))
            ask("pictures v2", predict("pictures", bodies["bytes input"]))
            ask("raw picture", predict("pictures", picture()))
        if group == "kserve":
            ask("explained", Request("/explanations/explained", bodies["targets"]))
        if group != "body":
            batch = [{"instances": [f"n{n}"], "inputs": [{**v2, "name": f"n{n}"}]} for n in range(4)]
            requests = [predict("batched_rows", body) for body in batch]
            ask("batch", *requests, together=True, **_enveloped_otherwise(group, "batch"))


def _enveloped_otherwise(group: str, name: str) -> dict[str, Any]:
    """Return the options of a case that an envelope answers differently on purpose."""
    failed = {"status": 503}
    return {
        ("json", "no instances"): {"differs": "error-texts", "ours": (failed,)},
        ("kservev2", "bytes answer"): {"differs": "error-texts", "ours": (failed,)},
        ("json", "without content type"): {"differs": "envelope-bytes", "ours": ({"status": 200},)},
        ("kserve", "batch"): {"differs": "envelope-batch", "ours": ({"status": 200},) * 4},
        ("kservev2", "batch"): {"differs": "envelope-batch", "ours": ({"status": 200},) * 4},
    }.get((group, name), {})


_PARTS = (_probe, _simple, _answers, _statuses, _failures, _handlers, _models, _dying, _batched, _enveloped)


for _make in _PARTS:
    _make()

assert len({case.name for case in CASES}) == len(CASES), "two cases have the same name"
