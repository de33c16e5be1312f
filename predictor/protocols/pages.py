"""Pages for people: `/ui` to try a model out, `/docs` to try the API out, and `/openapi.json`.

Everything they load comes from this server and they may load nothing else (Content-Security-Policy),
so that a cluster without a way out shows them whole, and text from a model or a file name stays text.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson

from predictor.errors import PredictorError, ResourceNotFound
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.protocols import kserve
from predictor.protocols.openapi import inference_api
from predictor.serving.registry import Registry
from predictor.web import assets, examples

_FILES = {
    "/ui": "ui.html",
    "/ui/ui.css": "ui.css",
    "/ui/ui.js": "ui.js",
    "/ui/dom.js": "dom.js",
    "/ui/explain.js": "explain.js",
    "/ui/fields.js": "fields.js",
    "/ui/picture.js": "picture.js",
    "/ui/token.js": "token.js",
    "/ui/icon.svg": "icon.svg",
    "/docs": "docs.html",
    "/docs/docs.css": "docs.css",
    "/docs/docs.js": "docs.js",
}
_SWAGGER_FILES = {
    "/docs/swagger-ui.css": "swagger-ui.css",
    "/docs/swagger-ui-bundle.js": "swagger-ui-bundle.js",
}
_MODELS = "/ui/models"
_EXAMPLES = "/ui/examples/"
_OPENAPI = "/openapi.json"
_PATHS = frozenset({*_FILES, *_SWAGGER_FILES, _MODELS, _OPENAPI})

# Kept, but asked about at every use: a new version of the server must not meet an old script.
_REVALIDATE = "no-cache"
_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# Swagger UI's style sheet has its icons inside.
_DOCS_POLICY = f"{_POLICY}; img-src 'self' data:"
_NO_SWAGGER = (
    "The interactive page needs the package fastapi-swagger (pip install fastapi-swagger); "
    "the document itself is at /openapi.json"
)


class PagesProtocol:
    """Answers the pages, their files, and what the page `/ui` asks about models."""

    label = "pages"

    def __init__(self, registry: Registry) -> None:
        """Show the models of `registry`."""
        self._registry = registry
        self._openapi: assets.Asset | None = None

    def claims(self, path: str) -> bool:
        """Return whether `path` is one of these; /ui/predict and the like still mean a model named `ui`."""
        return path in _PATHS or (path.startswith(_EXAMPLES) and examples.is_picture(path))

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        kserve.require_method(request, "GET", "HEAD")
        path = request.path
        if request.trailing_slash and path in _FILES:
            # The pages' links are relative, so that they also work behind a path prefix.
            return HttpResponse(308, headers=[("Location", f"..{path}")])
        if path == _MODELS:
            return json_response(orjson.dumps({"models": await self._models()}))
        if path.startswith(_EXAMPLES):
            return await _file_response(await self._picture(request), request)
        return await _file_response(self._file(path), request)

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return KServe's error body."""
        return kserve.render_error(error)

    def _file(self, path: str) -> assets.Asset:
        if path == _OPENAPI:
            if self._openapi is None:
                text = json.dumps(inference_api(), indent=2, ensure_ascii=False)
                self._openapi = assets.make_asset(_OPENAPI, text.encode("utf-8"))
            return self._openapi
        if path.startswith("/docs"):
            asset = assets.swagger_file(_SWAGGER_FILES.get(path, "swagger-ui.css"))
            if asset is None:
                raise ResourceNotFound(_NO_SWAGGER)
            if path in _SWAGGER_FILES:
                return asset
        return assets.page_file(_FILES[path])

    async def _models(self) -> list[dict[str, Any]]:
        """Describe what `/info` does not tell: whether each model answers, and its examples."""
        described = []
        for name in self._registry.names():
            model = self._registry.get(name)
            described.append(
                {
                    "name": model.name,
                    "version": model.version,
                    "ready": model.ready,
                    "state": model.state.value.lower(),
                    "failure": model.failure,
                    "explains": bool(model.info.explain and model.info.inputs),
                    "examples": await asyncio.to_thread(examples.list_examples, model.archive.directory),
                }
            )
        return described

    async def _picture(self, request: HttpRequest) -> assets.Asset:
        *name, file = request.path[len(_EXAMPLES) :].split("/")
        directory = self._registry.get("/".join(name)).archive.directory
        picture = await asyncio.to_thread(examples.read_picture, directory, file)
        if picture is None:
            raise ResourceNotFound(f"The model has no example picture {file!r}")
        return picture


async def _file_response(asset: assets.Asset, request: HttpRequest) -> HttpResponse:
    """Send a file, compressed where the client can undo that, or say that the client's copy is good."""
    packed = "gzip" in request.header("accept-encoding") and not asset.content_type.startswith("image/")
    etag = f'{asset.etag[:-1]}-gzip"' if packed else asset.etag
    headers = [
        ("ETag", etag),
        ("Vary", "Accept-Encoding"),
        ("Content-Security-Policy", _DOCS_POLICY if request.path.startswith("/docs") else _POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
    ]
    if _matches(request.header("if-none-match"), etag):
        return HttpResponse(304, headers=headers, cache_control=_REVALIDATE)
    headers.append(("Content-Type", asset.content_type))
    body = asset.body
    if packed:
        headers.append(("Content-Encoding", "gzip"))
        body = await asyncio.to_thread(lambda: asset.packed)
    return HttpResponse(200, body, headers, cache_control=_REVALIDATE)


def _matches(header: str, etag: str) -> bool:
    """Return whether an If-None-Match header names `etag`."""
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in header.split(","))
