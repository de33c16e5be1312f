"""Media types that mean JSON on KServe's V1, for both sides."""

from __future__ import annotations

# curl -d without a header of its own says urlencoded, and means JSON, in KServe's own examples; the SDK reads
# octet-stream as JSON.
_JSON = (
    "",
    "application/json",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/plain",
)


def media_type_of(content_type: str) -> str:
    """Return the media type of a Content-Type header, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str) -> bool:
    """Return whether a body of this content type is to be read as JSON; a missing type is JSON, too."""
    media_type = media_type_of(content_type)
    return media_type in _JSON or media_type.endswith("+json")
