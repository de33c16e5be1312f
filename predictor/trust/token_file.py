"""Tokens that the operator brings: a file, or a mounted Secret, read again when it changes.

One token a line, `inference:` or `management:` before it if it is for that alone; empty lines and lines
that begin with `#` do not count. A folder (a Secret with several entries) counts as its files together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from predictor.trust.bearer import digest, is_one_of
from predictor.trust.errors import TrustError
from predictor.trust.files import read_file
from predictor.trust.role import ROUTE_ROLES, Role

# RFC 6750's characters; none of them is the colon behind a role.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_LINE = re.compile(r"(?:(\w+)[ \t]*:[ \t]*)?(.*)", re.ASCII)
_ROLES = {role.value: role for role in ROUTE_ROLES}

Digests = dict[Role, frozenset[bytes]]


class TokenFile:
    """The tokens of one file or folder."""

    def __init__(self, path: Path) -> None:
        """Read the tokens.

        Raises:
            TrustError: there are none, or something else is in the way; the text never shows a token.
        """
        self.path = path
        self._digests = read_tokens(path)

    def accepts(self, presented: bytes, role: Role) -> bool:
        """Return whether `presented`, a digest, is that of one of the role's tokens."""
        return is_one_of(presented, self._digests.get(role, ()))

    def reload(self) -> None:
        """Read the tokens again; those that are gone no longer count.

        Raises:
            TrustError: as for the constructor; the tokens stay as they were.
        """
        self._digests = read_tokens(self.path)


def read_tokens(path: Path) -> Digests:
    """Return the digests of the tokens in a file or folder, by role.

    Raises:
        TrustError: it cannot be read, a line is no token, or there is none.
    """
    tokens: list[tuple[Role, bytes]] = []
    for file in _files(path):
        try:
            tokens += parse_tokens(_text(file))
        except ValueError as error:
            raise TrustError(f"token_file {file}: {error}") from error
    if not tokens:
        raise TrustError(f"token_file {path}: no token in it")
    return {role: frozenset(token for other, token in tokens if other is role) for role in ROUTE_ROLES}


def first_token(path: Path, role: Role) -> str:
    """Return the first token in a file or folder that is for `role` or for everything; for clients.

    Raises:
        TrustError: it cannot be read, a line is no token, or there is none; the text never shows a token.
    """
    for file in _files(path):
        try:
            tokens = list(split_tokens(_text(file)))
        except ValueError as error:
            raise TrustError(f"token_file {file}: {error}") from None
        for own, token in tokens:
            if own in (None, role):
                return token
    raise TrustError(f"token_file {path}: no token for {role.value} in it")


def is_token(text: str) -> bool:
    """Return whether `text` has the form of a bearer token."""
    return _TOKEN.fullmatch(text) is not None


def parse_tokens(text: str) -> Iterator[tuple[Role, bytes]]:
    """Yield role and digest of each token; one without a role is yielded for every role.

    Raises:
        ValueError: a line is no token; the text names the line and does not show it.
    """
    for own, token in split_tokens(text):
        yield from ((role, digest(token)) for role in (ROUTE_ROLES if own is None else (own,)))


def split_tokens(text: str) -> Iterator[tuple[Role | None, str]]:
    """Yield role, None for every one, and token of each line that has one.

    Raises:
        ValueError: a line is no token; the text names the line and does not show it.
    """
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        role, token = match.groups() if match is not None else (None, "")
        if not is_token(token):
            raise ValueError(f"line {number} is not a token (letters, digits and -._~+/ with = at its end)")
        if role is not None and role.lower() not in _ROLES:
            raise ValueError(f"line {number}: the role before the colon is {' or '.join(_ROLES)}")
        yield None if role is None else _ROLES[role.lower()], token


def _files(path: Path) -> list[Path]:
    """Return the file itself, or those of a folder; kubelet's own entries there begin with dots.

    Raises:
        TrustError: the folder cannot be read.
    """
    try:
        if not path.is_dir():
            return [path]
        return sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())
    except OSError as error:
        raise TrustError(f"token_file {path}: {error.strerror or error}") from error


def _text(path: Path) -> str:
    """Read a file.

    Raises:
        TrustError: it cannot be read, is too long, or is no text.
    """
    data = read_file(path, "token_file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TrustError(f"token_file {path}: not UTF-8") from None
