"""The Authorization header, and comparing what it holds without telling how much of it is right."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

# RFC 6750 (2.1), but for the characters: TorchServe takes whatever is not white space.
_BEARER = re.compile(r"bearer[ \t]+(\S+)", re.IGNORECASE | re.ASCII)
# A token is a few dozen characters, a JWT perhaps a thousand.
_MAX_TOKEN = 8192


def bearer_token(header: str) -> str:
    """Return the token of an Authorization header, "" if there is none in it."""
    match = _BEARER.fullmatch(header.strip())
    token = match.group(1) if match is not None else ""
    return token if len(token) <= _MAX_TOKEN else ""


def digest(token: str) -> bytes:
    """Return 32 bytes that stand for a token; neither its length nor its beginning shows in them."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def is_one_of(presented: bytes, accepted: Iterable[bytes]) -> bool:
    """Return whether a digest is among others, in a time that does not depend on which one."""
    found = False
    for other in accepted:
        found |= hmac.compare_digest(presented, other)
    return found
