"""Files that are sent as they are, ready to be sent: with their type, their ETag and a compressed copy."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp"})
"""Pictures that every browser can show and that cannot carry a script."""


@dataclass(frozen=True)
class Asset:
    """One file.

    Attributes:
        content_type: media type, with the charset of text.
        body: its bytes.
    """

    content_type: str
    body: bytes

    @functools.cached_property
    def etag(self) -> str:
        """A name for exactly these bytes, in quotes as the header wants it."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:24]}"'

    @functools.cached_property
    def packed(self) -> bytes:
        """The bytes, gzipped; takes some 0.1 s for a megabyte the first time."""
        return gzip.compress(self.body, mtime=0)


def make_asset(name: str, body: bytes) -> Asset:
    """Return `body` as the asset that a file called `name` would be."""
    suffix = name[name.rfind(".") :].lower()
    return Asset(_TYPES.get(suffix, "application/octet-stream"), body)


@functools.cache
def page_file(name: str) -> Asset:
    """Return a file of this folder."""
    return make_asset(name, (Path(__file__).parent / name).read_bytes())


@functools.cache
def swagger_file(name: str) -> Asset | None:
    """Return a file of Swagger UI, None where the package that carries it is not installed.

    The package is looked up, not imported: only its files are wanted, none of its code.
    """
    package = importlib.util.find_spec("fastapi_swagger")
    if package is None or package.origin is None:
        return None
    return make_asset(name, (Path(package.origin).parent / "resources" / name).read_bytes())
