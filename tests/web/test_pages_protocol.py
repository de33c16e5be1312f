"""The pages as a browser's cache, and someone with bad intentions, would ask for them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from predictor.errors import PredictorError
from predictor.http.application import Application
from predictor.http.messages import HttpRequest, HttpResponse
from predictor.protocols import pages
from predictor.protocols.openapi import inference_api
from predictor.protocols.pages import PagesProtocol
from predictor.protocols.routes import find_protocol
from predictor.serving.model import ModelState
from predictor.serving.registry import Registry
from predictor.web import assets

WEB = Path(assets.__file__).parent
STATIC = sorted(path for path in WEB.iterdir() if path.suffix in (".html", ".css", ".js", ".svg"))
HOSTILE = "<img src=x onerror=alert(1)>"
needs_swagger = pytest.mark.skipif(
    assets.swagger_file("swagger-ui.css") is None, reason="fastapi-swagger is not installed"
)


def served(directory, name="m", ready=True):
    state = ModelState.READY if ready else ModelState.RECOVERING
    archive = SimpleNamespace(directory=directory)
    failure = "" if ready else "no such file"
    return SimpleNamespace(
        name=name,
        version="1.0",
        ready=ready,
        state=state,
        failure=failure,
        archive=archive,
        info=SimpleNamespace(explain={"methods": []} if ready else {}, inputs=("x",)),
    )


@pytest.fixture
def registry(tmp_path):
    made = Registry()
    for number, (name, ready) in enumerate({HOSTILE: True, "team/m": False}.items()):
        folder = tmp_path / str(number) / "examples"
        folder.mkdir(parents=True)
        (folder / "a b.png").write_bytes(b"\x89PNG" + bytes([number]))
        made.add(served(folder.parent, name, ready))
    return made


@pytest.fixture
def ask(registry):
    protocol = PagesProtocol(registry)

    async def send(path: str, method: str = "GET", **headers: str) -> HttpResponse:
        given = [(name.replace("_", "-"), value) for name, value in headers.items()]
        request = HttpRequest(method, path, "", given, "r")
        try:
            return await protocol.handle(request)
        except PredictorError as error:
            return protocol.render_error(error)

    return send


def header(response: HttpResponse, name: str) -> str | None:
    return next((value for key, value in response.headers if key.lower() == name), None)


@pytest.mark.parametrize("path", [path for path in pages._FILES if path.startswith("/ui")])
async def test_every_file_comes_with_its_type_and_the_policy(ask, path):
    response = await ask(path)
    assert response.status == 200
    assert response.body == (WEB / pages._FILES[path]).read_bytes()
    assert header(response, "content-security-policy").startswith("default-src 'self'; ")
    assert "unsafe" not in header(response, "content-security-policy")
    assert header(response, "x-content-type-options") == "nosniff"
    assert header(response, "content-type") == {
        "html": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
        "svg": "image/svg+xml",
    }.get(path.rpartition(".")[2] if "." in path else "html")


def test_every_file_that_ships_is_served():
    assert {path.name for path in STATIC} == set(pages._FILES.values())


@pytest.mark.parametrize("encoding", ["", "gzip, br"])
async def test_a_copy_that_is_still_good_is_not_sent_again(ask, encoding):
    first = await ask("/ui/ui.js", accept_encoding=encoding)
    assert first.cache_control == "no-cache"
    assert header(first, "vary") == "Accept-Encoding"
    etag = header(first, "etag")
    for known in (etag, f'"other", W/{etag}', "*"):
        again = await ask("/ui/ui.js", accept_encoding=encoding, if_none_match=known)
        assert (again.status, again.body, again.cache_control) == (304, b"", "no-cache")
        assert header(again, "etag") == etag
    assert (await ask("/ui/ui.js", accept_encoding=encoding, if_none_match='"other"')).status == 200
    assert (await ask("/ui/ui.css", accept_encoding=encoding, if_none_match=etag)).status == 200


async def test_text_is_sent_compressed_to_those_who_can_read_it(ask):
    plain = await ask("/ui/ui.css")
    packed = await ask("/ui/ui.css", accept_encoding="gzip")
    assert header(plain, "content-encoding") is None
    assert header(packed, "content-encoding") == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert header(plain, "etag") != header(packed, "etag")
    picture = await ask(f"/ui/examples/{HOSTILE}/a b.png", accept_encoding="gzip")
    assert header(picture, "content-encoding") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/ui", "/ui/models", "/docs", "/openapi.json"])
async def test_pages_are_read_only(ask, path, method):
    response = await ask(path, method)
    assert response.status == 405
    assert header(response, "allow") == "GET, HEAD"
    assert (await ask("/ui", "HEAD")).status == 200


@pytest.mark.parametrize("path", ["/ui", "/docs"])
async def test_a_trailing_slash_is_taken_away_so_that_relative_links_hold(ask, path):
    response = await ask(f"{path}/")
    assert (response.status, header(response, "location")) == (308, f"..{path}")


async def test_the_document_is_ours_and_the_same(ask):
    response = await ask("/openapi.json")
    assert json.loads(response.body) == inference_api()
    assert header(response, "content-type") == "application/json"
    assert (await ask("/openapi.json", if_none_match=header(response, "etag"))).status == 304


@needs_swagger
async def test_the_api_page_brings_its_library_along(ask):
    page = (await ask("/docs")).body.decode()
    for name in re.findall(r'(?:src|href)="(docs/[^"]+)"', page):
        response = await ask(f"/{name}")
        assert response.status == 200
        assert "img-src 'self' data:" in header(response, "content-security-policy")
    assert b"SwaggerUIBundle" in (await ask("/docs/swagger-ui-bundle.js")).body


async def test_without_the_library_the_api_page_says_what_is_missing(ask, monkeypatch):
    monkeypatch.setattr(assets, "swagger_file", lambda name: None)
    for path in ("/docs", "/docs/docs.js", "/docs/swagger-ui.css"):
        response = await ask(path)
        assert response.status == 404
        assert "pip install fastapi-swagger" in json.loads(response.body)["error"]
    assert (await ask("/openapi.json")).status == 200


async def test_models_are_listed_with_their_state_and_examples(ask):
    response = await ask("/ui/models")
    assert response.cache_control == ""
    first, second = json.loads(response.body)["models"]
    assert first == {
        "name": HOSTILE,
        "version": "1.0",
        "ready": True,
        "state": "ready",
        "failure": "",
        "explains": True,
        "examples": [{"name": "a b.png", "kind": "image"}],
    }
    assert (second["ready"], second["state"], second["failure"]) == (False, "recovering", "no such file")


@pytest.mark.parametrize(("name", "number"), [(HOSTILE, 0), ("team/m", 1)])
async def test_an_example_picture(ask, name, number):
    response = await ask(f"/ui/examples/{name}/a b.png")
    assert (response.status, response.body) == (200, b"\x89PNG" + bytes([number]))
    assert header(response, "content-type") == "image/png"


@pytest.mark.parametrize(
    "path", ["/ui/examples/m/a b.png", f"/ui/examples/{HOSTILE}/c.png", "/ui/examples/a b.png"]
)
async def test_a_picture_that_is_not_there(ask, path):
    response = await ask(path)
    assert response.status == 404
    assert header(response, "content-type") == "application/json"


def test_paths_that_mean_something_else_are_left_alone(registry):
    find = find_protocol(registry)
    for path in (
        "/ui",
        "/ui/",
        "/ui/ui.js",
        "/docs",
        "/docs/docs.js",
        "/openapi.json",
        "/ui/examples/m/a.png",
    ):
        assert isinstance(find("GET", path), PagesProtocol), path
    # A model may be called `ui` or `docs`, and TorchServe's old paths begin with the name.
    for path in ("/ui/predict", "/docs/predict", "/ui/1.0/predict", "/ui/other.js", "/uid", "/ui/examples/m"):
        assert not isinstance(find("POST", path), PagesProtocol), path


async def test_caching_headers_as_they_leave_the_server(registry):
    app = Application(find_protocol(registry), None, max_request_size=10, access_log=None)
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/ui", "headers": [(b"x-request-id", b"abc")]}
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert headers["cache-control"] == "no-cache"
    assert headers["x-request-id"] == "abc"
    assert not {"pragma", "expires"} & set(headers)


# What the files must not contain, whatever becomes of them


@pytest.mark.parametrize(
    "path", [path for path in STATIC if path.suffix == ".html"], ids=lambda path: path.name
)
def test_pages_have_no_inline_code_and_nothing_from_elsewhere(path):
    text = path.read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    for target in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert not re.match(r"[a-z]+:|/", target), f"{target} is not relative"


@pytest.mark.parametrize(
    "path", [path for path in STATIC if path.suffix == ".js"], ids=lambda path: path.name
)
def test_scripts_never_read_text_as_html_or_code(path):
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://"
    assert not re.search(forbidden, path.read_text())


def _luminance(colour: str) -> float:
    if len(colour) == 4:
        colour = "#" + "".join(digit * 2 for digit in colour[1:])
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(scheme):
    palettes = re.findall(r":root \{(.*?)\}", (WEB / "ui.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", palettes[scheme]))
    text = [
        ("text", "page"),
        ("text", "card"),
        ("text", "soft"),
        ("text", "code"),
        ("muted", "card"),
        ("accent", "page"),
        ("on-accent", "accent"),
        ("bad", "bad-soft"),
    ]
    for ink, paper in text:
        assert _contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)
    for part, beside in [("edge", "card"), ("accent", "track"), ("accent", "card"), ("good", "card")]:
        assert _contrast(colours[part], colours[beside]) >= 3, (part, beside)
