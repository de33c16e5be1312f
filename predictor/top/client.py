"""Asking a server for its metrics."""

from __future__ import annotations

import dataclasses
import http.client
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

_SECONDS = 5.0
# More than a server with a thousand models tells.
_MAX_BYTES = 64 * 1024 * 1024


class ServerGone(Exception):
    """The server cannot be asked; the text says why, and what might help."""


@dataclasses.dataclass(frozen=True)
class Client:
    """Asks one server.

    Attributes:
        url: its address, http or https, without a path.
        token: sent as a bearer token; "" for none.
        ca_file: authorities to trust beside the system's, PEM.
    """

    url: str
    token: str = ""
    ca_file: Path | None = None

    def metrics(self) -> str | None:
        """Return the text of `/metrics`, None where the server does not serve it.

        Raises:
            ServerGone: it does not answer, or refuses.
        """
        try:
            return self._get("/metrics").decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise _refused(self.url, error) from error

    def index(self) -> list[dict[str, Any]]:
        """Return name, version and state of every model, from KServe's repository index.

        Raises:
            ServerGone: it does not answer, or refuses.
        """
        try:
            models = json.loads(self._get("/v2/repository/index"))
        except urllib.error.HTTPError as error:
            raise _refused(self.url, error) from error
        except ValueError as error:
            raise ServerGone(f"{self.url} is no predictor: {error}") from error
        if isinstance(models, dict):
            models = models.get("models", [])
        return [model for model in models if isinstance(model, dict)]

    def _get(self, path: str) -> bytes:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(self.url.rstrip("/") + path, headers=headers)  # noqa: S310 - checked
        context = None
        try:
            if self.url.startswith("https:"):
                context = ssl.create_default_context()
                if self.ca_file is not None:
                    context.load_verify_locations(self.ca_file)
            with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as response:  # noqa: S310
                body: bytes = response.read(_MAX_BYTES)
                return body
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            raise ServerGone(f"{self.url} does not answer: {_reason(error.reason)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ServerGone(f"{self.url} does not answer: {_reason(error)}") from error


def _refused(url: str, error: urllib.error.HTTPError) -> ServerGone:
    hint = "; does it want a token (--token-file)?" if error.code in (400, 401, 403) else ""
    return ServerGone(f"{url} answers {error.code} {error.reason}{hint}")


def _reason(error: object) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
