"""Reading the files that the settings name."""

from __future__ import annotations

from pathlib import Path

from predictor.trust.errors import TrustError

_MAX_BYTES = 1024 * 1024


def read_file(path: Path, setting: str) -> bytes:
    """Return what stands in the file that `setting` names.

    Raises:
        TrustError: it cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise TrustError(f"{setting} {path}: {error.strerror or error}") from error
    if len(data) > _MAX_BYTES:
        raise TrustError(f"{setting} {path}: longer than {_MAX_BYTES} bytes")
    return data
