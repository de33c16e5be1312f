"""Unpacking a .mar (zip) or .tar.gz into a folder without trusting it.

What is refused, always with the member's name: absolute paths, `..`, names with NUL, control characters,
backslashes or undecodable bytes, the same name twice, a file where a folder is needed, devices and pipes,
links that lead out of the archive or nowhere, encrypted members, and anything beyond `UnpackLimits`.

No link is ever created: a link inside the archive becomes a second name (hard link) of the file it points
to, so nothing that reads the folder later can be led out of it. Sizes are counted while bytes are written,
never taken from a header.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from predictor.archives.errors import ArchiveError

GZIP_MAGIC = b"\x1f\x8b"
COPY_BYTES = 1 << 20

MAX_NAME_BYTES = 255
"""The longest name of one file on every common Linux file system."""

MAX_PATH_BYTES = 2048
"""Half of Linux's PATH_MAX, so that the scratch folder's own path fits in front."""

MAX_TAR_HEADER_BYTES = 1 << 20
"""tarfile reads an extended header into memory at once; its length is the archive's own claim."""


@dataclass(frozen=True)
class UnpackLimits:
    """How much an archive may unpack to.

    `total_bytes`: 256 GiB holds the largest weights served from one archive today and stops an endless
    stream. `members`: a model with a vendored Python package has some thousand files. `ratio`: weights
    compress to no less than a tenth; only a file of zeros passes 200. Deflate reaches 1032 at most, so
    the ratio is asked for only above `ratio_free_bytes`, below which a toy model of zeros is harmless.
    """

    total_bytes: int = 256 << 30
    members: int = 50_000
    ratio: float = 200.0
    ratio_free_bytes: int = 256 << 20


DEFAULT_LIMITS = UnpackLimits()


def unpack(source: Path, scratch: Path, limits: UnpackLimits = DEFAULT_LIMITS) -> Path:
    """Unpack `source` into a new folder below `scratch` (made when missing) and return that folder.

    The kind is told by content, not by name. Raises `ArchiveError`; nothing is left behind then.
    """
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        target = Path(tempfile.mkdtemp(prefix="model-", dir=scratch))
    except OSError as error:
        raise ArchiveError(source, f"cannot be unpacked into {scratch}: {error.strerror}") from error
    try:
        _unpack_into(source, _Target(source, target, limits))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def is_gzip(source: Path) -> bool:
    """Say whether the file starts like a gzip stream; OSError when it cannot be read."""
    with source.open("rb") as stream:
        return stream.read(2) == GZIP_MAGIC


def _unpack_into(source: Path, target: _Target) -> None:
    try:
        if is_gzip(source):
            _unpack_tar(source, target)
        elif zipfile.is_zipfile(source):
            _unpack_zip(source, target)
        else:
            raise ArchiveError(source, "is neither a zip (.mar) nor a .tar.gz file, or it is cut short")
        target.link()
    except OSError as error:
        reason = f"cannot be unpacked: {error.strerror or error}"
        raise ArchiveError(source, reason, member=target.current) from error


# --- the folder being filled -----------------------------------------------------------------------------


@dataclass
class _Target:
    """The folder being filled, what it holds so far, and what it may still take."""

    source: Path
    folder: Path
    limits: UnpackLimits
    files: dict[str, Path] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    written: int = 0
    count: int = 0
    packed: int = 0
    current: str | None = None

    def __post_init__(self) -> None:
        self.packed = max(1, self.source.stat().st_size)

    def begin(self, name: str) -> str:
        """Count one more member and return its checked, normal name ("" for the archive's root)."""
        self.current = name
        self.count += 1
        if self.count > self.limits.members:
            raise self.error(f"the archive has more than {self.limits.members} members")
        return self._clean(name)

    def error(self, reason: str, name: str | None = None) -> ArchiveError:
        return ArchiveError(self.source, reason, member=self.current if name is None else name)

    def add_folder(self, name: str) -> None:
        if name in self.files or name in self.links:
            raise self.error("is a folder and a file at once")
        if name and name not in self.folders:
            self.add_folder(name.rpartition("/")[0])
            self.folders.add(name)
            (self.folder / name).mkdir(mode=0o755)

    def add_file(self, name: str, stream: IO[bytes], mode: int) -> None:
        self._claim(name)
        path = self.folder / name
        # O_EXCL|O_NOFOLLOW: the folder is new and ours, so these never matter - unless the above is wrong.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o755 if mode & 0o111 else 0o644), "wb") as out:
            while chunk := stream.read(COPY_BYTES):
                self.written += len(chunk)
                self._check_size()
                out.write(chunk)
        self.files[name] = path

    def add_link(self, name: str, points_to: str) -> None:
        """Remember a link; `points_to` is relative to the archive's root and may still lead out of it."""
        self._claim(name)
        self.links[name] = self._resolve(points_to)

    def link(self) -> None:
        """Give every linked file its second name, now that all files are here."""
        for name in self.links:
            self.current = name
            os.link(self.files[self._follow(name)], self.folder / name)

    def _follow(self, name: str) -> str:
        seen = {name}
        while name in self.links:
            name = self.links[name]
            if name in seen:
                raise self.error("is a link to itself")
            seen.add(name)
        if name not in self.files:
            what = "a folder" if name in self.folders or not name else "nothing in the archive"
            raise self.error(f"is a link to {what} ({name!r}); only links to files are accepted")
        return name

    def _claim(self, name: str) -> None:
        if not name:
            raise self.error("has no name")
        if name in self.files or name in self.links:
            raise self.error("occurs twice")
        if name in self.folders:
            raise self.error("is a folder and a file at once")
        self.add_folder(name.rpartition("/")[0])

    def _check_size(self) -> None:
        if self.written > self.limits.total_bytes:
            raise self.error(f"the archive unpacks to more than {self.limits.total_bytes} bytes")
        if self.written > self.limits.ratio_free_bytes and self.written > self.limits.ratio * self.packed:
            raise self.error(f"the archive unpacks to more than {self.limits.ratio:g} times its size")

    def _clean(self, name: str) -> str:
        if not name:
            raise self.error("has no name")
        if name.startswith("/") or name[1:3] == ":/":
            raise self.error("is an absolute path")
        if "\\" in name or not all(char.isprintable() for char in name):
            raise self.error("has a name with a backslash, a control or an undecodable character")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.error('leads out of the archive ("..")')
        if any(len(part.encode()) > MAX_NAME_BYTES for part in parts) or len(name.encode()) > MAX_PATH_BYTES:
            raise self.error("has a name that is too long")
        return "/".join(parts)

    def _resolve(self, points_to: str) -> str:
        if points_to.startswith("/"):
            raise self.error(f"is a link to the absolute path {points_to!r}")
        parts: list[str] = []
        for part in points_to.split("/"):
            if part == "..":
                if not parts:
                    raise self.error(f"is a link that leads out of the archive ({points_to!r})")
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return "/".join(parts)


def _beside(name: str, points_to: str) -> str:
    """Return a symbolic link's target relative to the root, given relative to the link's own folder."""
    return points_to if points_to.startswith("/") else f"{name.rpartition('/')[0]}/{points_to}".lstrip("/")


# --- zip -------------------------------------------------------------------------------------------------

_ENCRYPTED = 0x1
_SUPPORTED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)


def _unpack_zip(source: Path, target: _Target) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                _unpack_zip_member(archive, info, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, LookupError) as error:
        # Beside its own error, zipfile lets those of its decompressors and of struct and codecs through.
        raise target.error(f"the zip file is damaged: {error}") from error


def _unpack_zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: _Target) -> None:
    # zipfile cuts a name at its first NUL, which would let "handler.py\0.txt" pass as "handler.py".
    name = target.begin(info.orig_filename)
    mode = info.external_attr >> 16
    if info.flag_bits & _ENCRYPTED:
        raise target.error("is encrypted")
    if info.compress_type not in _SUPPORTED:
        raise target.error(f"is compressed by a method that is not supported ({info.compress_type})")
    kind = stat.S_IFMT(mode)
    if info.is_dir():
        target.add_folder(name)
    elif kind == stat.S_IFLNK:
        if info.file_size > MAX_PATH_BYTES:
            raise target.error("is a link with a target that is too long")
        target.add_link(name, _beside(name, archive.read(info).decode("utf-8")))
    elif kind in (0, stat.S_IFREG):
        with archive.open(info) as stream:
            target.add_file(name, stream, mode)
    else:
        raise target.error("is a device, a pipe or a socket")


# --- tar -------------------------------------------------------------------------------------------------


class _BoundedStream:
    """A gzip stream that refuses to run past a limit or to hand out an absurd amount at once."""

    def __init__(self, raw: gzip.GzipFile, target: _Target) -> None:
        self._raw = raw
        self._target = target
        # Headers and padding come on top of what is written: 512 + 1024 bytes a member, generously.
        self._limit = target.limits.total_bytes + 4096 * (target.limits.members + 16)

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= max(MAX_TAR_HEADER_BYTES, COPY_BYTES):
            raise self._target.error("has a header that is too large")
        data = self._raw.read(size)
        self._check()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        # gzip seeks by decompressing; a claimed size of terabytes must not be believed.
        if whence != 0 or offset > self._limit:
            raise self._target.error("has a size that is too large")
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def _check(self) -> None:
        position, limits = self._raw.tell(), self._target.limits
        if position > self._limit:
            raise self._target.error(f"the archive unpacks to more than {limits.total_bytes} bytes")


def _unpack_tar(source: Path, target: _Target) -> None:
    try:
        with gzip.open(source, "rb") as raw:
            stream: Any = _BoundedStream(raw, target)
            with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
                for info in _tar_members(archive):
                    _unpack_tar_member(archive, info, target)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError) as error:
        raise target.error(f"the tar.gz file is damaged: {error}") from error


def _tar_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (info := archive.next()) is not None:
        yield info
        # tarfile remembers every member it has seen; a streaming reader need not.
        archive.members.clear()  # type: ignore[attr-defined]


def _unpack_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, target: _Target) -> None:
    name = target.begin(info.name)
    if info.isdir():
        target.add_folder(name)
    elif info.issym():
        target.add_link(name, _beside(name, info.linkname))
    elif info.islnk():
        target.add_link(name, info.linkname)
    elif info.issparse():
        raise target.error("is a sparse file, which is not supported")
    elif info.isreg() and (stream := archive.extractfile(info)) is not None:
        with stream:
            target.add_file(name, stream, info.mode)
    else:
        raise target.error("is a device, a pipe or a socket")
