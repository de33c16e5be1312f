"""Whether a request may pass: its token against all that are accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from predictor.trust.bearer import bearer_token, digest
from predictor.trust.role import Role


class Tokens(Protocol):
    """Something that knows which tokens count."""

    def accepts(self, presented: bytes, role: Role) -> bool:
        """Return whether `presented`, a digest, is that of a token for `role`."""


class Guard:
    """Asks every source of tokens."""

    def __init__(self, sources: Sequence[Tokens]) -> None:
        """Let those pass whose token is known to one of `sources`; without any, nobody passes."""
        self._sources = tuple(sources)

    def admits(self, role: Role, authorization: str) -> bool:
        """Return whether the Authorization header `authorization` carries a token for `role`."""
        token = bearer_token(authorization)
        if not token:
            return False
        presented = digest(token)
        found = False
        for source in self._sources:
            found |= source.accepts(presented, role)
        return found
