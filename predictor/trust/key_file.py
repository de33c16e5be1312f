"""TorchServe's `key_file.json`: keys made at the start, each for one role, some for a time.

Source: TorchServe 0.12's token authorization, as `shared/design/torchserve-contract.md` measured it. Our
keys are longer: 43 characters of base64url (256 random bits), not 8.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from predictor.trust.bearer import digest, is_one_of
from predictor.trust.errors import TrustError
from predictor.trust.role import ROUTE_ROLES, Role

_KEY_BYTES = 32
# The latest time that can be written with four digits for the year.
_LATEST = datetime(9999, 12, 31, tzinfo=timezone.utc).timestamp()


@dataclasses.dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        text: what the client sends.
        expires: seconds since 1970, None for never.
        digest: of the text.
    """

    text: str = dataclasses.field(repr=False)
    expires: float | None = None
    digest: bytes = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute what every request is compared with."""
        object.__setattr__(self, "digest", digest(self.text))


class KeyFile:
    """The keys of one run of the server, and the file that tells them to those who may read it."""

    def __init__(self, path: Path, minutes: float, clock: Callable[[], float] = time.time) -> None:
        """Make keys; nothing is written before `write`.

        Args:
            path: the file.
            minutes: how long the keys for inference and management count.
            clock: seconds since 1970.
        """
        self.path = path.absolute()
        self._seconds = minutes * 60
        self._clock = clock
        # Two clients may renew at once, in threads; the file must end with the keys of both.
        self._lock = threading.Lock()
        self._keys = {Role.MANAGEMENT: self._key(), Role.INFERENCE: self._key()}
        self._keys[Role.API] = Key(secrets.token_urlsafe(_KEY_BYTES))

    def accepts(self, presented: bytes, role: Role) -> bool:
        """Return whether `presented`, a digest, is that of the role's key, and the key still counts."""
        key = self._keys[role]
        same = is_one_of(presented, (key.digest,))
        return same and (key.expires is None or self._clock() < key.expires)

    def renew(self, role: Role) -> None:
        """Replace the key for inference or management, whether or not it has expired.

        Raises:
            TrustError: the file cannot be written; the old key counts on.
        """
        if role not in ROUTE_ROLES:
            raise ValueError(f"a key of kind {role.value} is not renewed")
        with self._lock:
            old = self._keys[role]
            self._keys[role] = self._key()
            try:
                self._write()
            except TrustError:
                self._keys[role] = old
                raise

    def write(self) -> None:
        """Write the file anew, readable for its owner alone; whoever reads sees the old one or the new one.

        Raises:
            TrustError: it cannot be written.
        """
        with self._lock:
            self._write()

    def _write(self) -> None:
        try:
            # mkstemp creates with mode 0600, and the rename replaces a link instead of following it.
            descriptor, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(self.render())
                temporary.replace(self.path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise TrustError(
                f"cannot write the key file {self.path}: {error.strerror or error}; token_key_file names "
                "another place, token_file brings tokens of your own"
            ) from error

    def render(self) -> str:
        """Return the text of the file."""
        document: dict[str, dict[str, str]] = {}
        for role, key in self._keys.items():
            document[role.value] = {"key": key.text}
            if key.expires is not None:
                document[role.value]["expiration time"] = _iso(key.expires)
        return json.dumps(document, indent=2) + "\n"

    def _key(self) -> Key:
        return Key(secrets.token_urlsafe(_KEY_BYTES), self._clock() + self._seconds)


def _iso(seconds: float) -> str:
    """Return a time as Java's Instant writes it."""
    moment = datetime.fromtimestamp(min(seconds, _LATEST), timezone.utc)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
