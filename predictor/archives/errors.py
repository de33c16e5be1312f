"""The one error of this package: something is wrong with an archive, and a person has to mend it."""

from __future__ import annotations

import os


class ArchiveError(Exception):
    """An archive, a model folder or one of its configuration files cannot be used.

    `source` is the path of the archive or folder, `member` the file inside it that is at fault (None when
    the whole of it is), `reason` what is wrong with it. `str()` joins the three into one sentence.
    """

    def __init__(self, source: str | os.PathLike[str], reason: str, *, member: str | None = None) -> None:
        """Say what is wrong with `source`, or with `member` inside it."""
        self.source = os.fspath(source)
        # A hostile name may hold terminal escapes or be megabytes long; what is shown must be neither.
        self.member = None if member is None else _printable(member)
        self.reason = reason
        where = self.source if self.member is None else f"{self.source}, member {self.member!r}"
        super().__init__(f"{where}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        """Keep all three parts when the error crosses a process boundary."""
        return _rebuild, (self.source, self.reason, self.member)


def _rebuild(source: str, reason: str, member: str | None) -> ArchiveError:
    return ArchiveError(source, reason, member=member)


def _printable(name: str, limit: int = 200) -> str:
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name[:limit])
    return shown if len(name) <= limit else shown + "..."
