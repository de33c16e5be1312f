"""From what a client calls a model (a file in the store, a path, a URL) to files on this machine.

A path outside the model store and every URL, those that a server redirects to included, must match one
of the operator's `allowed_urls`. What is downloaded lands in the model store, as in TorchServe, where
that can be written to, so that a restart finds it; else in the scratch folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from predictor import durable
from predictor.archives.archive import ARCHIVE_SUFFIXES, is_model_folder
from predictor.serving.errors import DownloadFailed, ModelFileExists, ModelSourceNotFound
from predictor.serving.fingerprint import Fingerprint, fingerprint

logger = logging.getLogger(__name__)

_MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 20
# Seconds to connect, and seconds without a byte: an object store may take a while to begin.
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
# Seconds for all of it: a server that sends a byte now and then must not keep its download open for ever.
_WHOLE_SECONDS = 3600.0
# What is compressed on the way is unpacked in memory, and a few bytes can become gigabytes there.
_HEADERS = {"accept-encoding": "identity"}
_KMS_HEADER = {"x-amz-server-side-encryption": "aws:kms"}


@dataclasses.dataclass(frozen=True)
class Source:
    """An archive or model folder on this machine.

    Attributes:
        path: where it is.
        url: what the client called it.
        written: what a download left there, which goes with its model; empty for what was there before.
    """

    path: Path
    url: str
    written: Fingerprint = ()

    def discard(self) -> None:
        """Remove what was downloaded; what somebody has put in its place since then is not ours."""
        if not self.written:
            return
        found = fingerprint(self.path)
        if found == self.written:
            self.path.unlink(missing_ok=True)
        elif found:
            logger.info("%s stays: it is not what was downloaded from %s", self.path, self.url)


class Sources:
    """Finds models in one store, and fetches those that are elsewhere."""

    def __init__(
        self, store: Path, scratch: Path, allowed: Sequence[re.Pattern[str]], max_bytes: int
    ) -> None:
        """Look in the folder `store` first.

        Args:
            store: the model store.
            scratch: folder for downloads where the store cannot be written to.
            allowed: what a URL must match one of, from beginning to end.
            max_bytes: size of a download, at most.
        """
        self._store = store
        self._scratch = scratch
        self._allowed = tuple(allowed)
        self._max_bytes = max_bytes
        self._fetching: set[str] = set()

    async def find(self, url: str, *, kms: bool = False) -> Source:
        """Return the archive or folder that `url` means, downloading it first if need be.

        Args:
            url: a name in the store, an absolute path, or a URL (file, http, https).
            kms: ask S3 for an object that is encrypted with a key of its key service.

        Raises:
            ModelSourceNotFound: there is none, or the client may not name it.
            ModelFileExists: the store has a file of the download's name already.
            DownloadFailed: the other side does not answer with an archive of a size that is allowed.
        """
        if not url:
            raise ModelSourceNotFound("empty url")
        # Escaped dots lead out of an allowed folder as well.
        if ".." in unquote(url):
            raise ModelSourceNotFound(f"Relative path is not allowed in url: {url}")
        scheme = _scheme(url, url)
        if scheme in ("http", "https"):
            self._require_allowed(url, url)
            return await self._download(url, kms)
        if scheme == "file":
            return await asyncio.to_thread(self._file_url, url)
        return await asyncio.to_thread(self._local, url)

    def _local(self, name: str) -> Source:
        """Return what `name` means in the store, else an absolute path that is allowed."""
        if Path(name).is_absolute():
            return self._elsewhere(Path(name), name)
        if not Path(name).name:
            raise ModelSourceNotFound(f"Model not found at: {name}")
        for candidate in (self._store / name, self._store / Path(name).name):
            if not candidate.name.startswith(".") and _exists(candidate):
                return Source(candidate, name)
        raise ModelSourceNotFound(f"Model not found at: {name}")

    def _file_url(self, url: str) -> Source:
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            # TorchServe takes file://name.mar for a download of that name, which cannot work either.
            if _exists(self._store / parts.netloc):
                raise ModelFileExists(parts.netloc)
            raise ModelSourceNotFound(f"Model not found at: {url}")
        return self._elsewhere(Path(unquote(parts.path)), url)

    def _elsewhere(self, path: Path, url: str) -> Source:
        self._require_allowed(f"file://{path}", url)
        is_model = path.name.endswith(ARCHIVE_SUFFIXES) and _exists(path) and path.is_file()
        if not is_model and not (_exists(path) and path.is_dir() and is_model_folder(path)):
            raise ModelSourceNotFound(f"Model not found at: {url}")
        return Source(path, url)

    def _require_allowed(self, url: str, given: str) -> None:
        if not any(pattern.fullmatch(url) for pattern in self._allowed):
            raise ModelSourceNotFound(f"Given URL {given} does not match any allowed URL(s)")

    async def _download(self, url: str, kms: bool) -> Source:
        name = unquote(urlsplit(url).path).rpartition("/")[2]
        if not name or name.startswith(".") or "\0" in name or len(name.encode()) > 200:
            raise DownloadFailed(url, "the URL does not end with a usable file name")
        if name in self._fetching:
            raise ModelFileExists(name)
        self._fetching.add(name)
        try:
            target = await asyncio.to_thread(self._folder) / name
            if target.exists():
                raise ModelFileExists(name)
            written = await asyncio.wait_for(self._fetch(url, target, kms), _WHOLE_SECONDS)
        except asyncio.TimeoutError as error:
            raise DownloadFailed(url, f"it took longer than {_WHOLE_SECONDS:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            raise DownloadFailed(url, f"{type(error).__name__}: {error}") from error
        finally:
            self._fetching.discard(name)
        return Source(target, url, written)

    def _folder(self) -> Path:
        """Return the folder for downloads."""
        if self._store.is_dir() and os.access(self._store, os.W_OK):
            return self._store
        folder = self._scratch / "downloads"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def _fetch(self, url: str, target: Path, kms: bool) -> Fingerprint:
        """Download `url` to `target`, which appears whole or not at all."""
        descriptor, partial = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                async with httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as client:
                    await self._follow(client, url, file.write, _HEADERS | (_KMS_HEADER if kms else {}))
            written = await asyncio.to_thread(_put, Path(partial), target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial)  # noqa: PTH108 - also while being cancelled, where no thread can be waited for
            raise
        logger.info("downloaded %s", target.name)
        return written

    async def _follow(
        self, client: httpx.AsyncClient, url: str, write: Callable[[bytes], object], headers: dict[str, str]
    ) -> None:
        """Write what `url` answers, after redirects to URLs that are allowed too."""
        given = url
        for _ in range(_MAX_REDIRECTS + 1):
            async with client.stream("GET", url, headers=headers) as answer:
                if not answer.is_redirect:
                    await self._save(answer, given, write)
                    return
                url = _joined(url, answer.headers["location"], given)
            if _scheme(url, given) not in ("http", "https"):
                raise DownloadFailed(given, f"it redirects to {url}")
            self._require_allowed(url, url)
        raise DownloadFailed(given, f"it redirects more than {_MAX_REDIRECTS} times")

    async def _save(self, answer: httpx.Response, url: str, write: Callable[[bytes], object]) -> None:
        if answer.status_code != httpx.codes.OK:
            raise DownloadFailed(url, f"the answer is {answer.status_code} {answer.reason_phrase}")
        size = 0
        if int(answer.headers.get("content-length", "0")) > self._max_bytes:
            raise DownloadFailed(url, f"it is larger than {self._max_bytes} bytes (max_archive_size)")
        async for chunk in answer.aiter_raw(_CHUNK_BYTES):
            size += len(chunk)
            if size > self._max_bytes:
                raise DownloadFailed(url, f"it is larger than {self._max_bytes} bytes (max_archive_size)")
            await asyncio.to_thread(write, chunk)


def _scheme(url: str, given: str) -> str:
    """Return the scheme of a URL or path, "" if it has none.

    Raises:
        DownloadFailed: it is no URL, although it looks like one; the error names `given`.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - asked for, because it is checked only then
    except ValueError as error:
        raise DownloadFailed(given, str(error)) from error
    return parts.scheme.lower()


def _joined(url: str, location: str, given: str) -> str:
    """Return where a redirect leads.

    Raises:
        DownloadFailed: nowhere; the error names `given`.
    """
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise DownloadFailed(given, f"it redirects to {location}: {error}") from error


def _exists(path: Path) -> bool:
    """Say whether there is something; a name that no file system takes, or a folder closed to us, is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _put(partial: Path, target: Path) -> Fingerprint:
    """Give a complete download its name; others may read it, as they may any file of the store.

    Raises:
        ModelFileExists: somebody has put a file of this name there while it was fetched.
    """
    partial.chmod(0o644)
    if target.exists():
        raise ModelFileExists(target.name)
    durable.put(partial, target)
    return fingerprint(target)
