"""Installing the `requirements.txt` of an archive, where the operator allows it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from predictor.archives.archive import ModelArchive

_LAST_LINES = 5


class DependencyError(Exception):
    """The packages cannot be installed; the text holds pip's last lines."""


async def install_requirements(archive: ModelArchive, scratch: Path) -> Path | None:
    """Install what an archive asks for into a folder of its own, which workers put on their path.

    Returns:
        The folder, None when the archive has no requirements.

    Raises:
        DependencyError: pip failed, for instance because there is no network.
    """
    name = archive.manifest.requirements_file
    requirements = archive.directory / (name or "requirements.txt")
    if not requirements.is_file():
        return None
    target = requirements_folder(archive, scratch)
    command = [sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            "--upgrade",
            "--target",
            str(target),
            "-r",
            str(requirements),
            cwd=archive.directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    )
    try:
        # Given up half way, asyncio would end pip alone: it runs before its start is over.
        process = await asyncio.shield(starting)
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process = await starting
        # pip starts processes of its own; none of them may outlive the server.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode:
        last = output.decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
        raise DependencyError(f"pip could not install {requirements.name}: {' / '.join(last)}")
    return target


def requirements_folder(archive: ModelArchive, scratch: Path) -> Path:
    """Return the folder for the packages of one model: beside what it was unpacked into, named after it.

    A model in a folder of its own has nothing unpacked; its path tells it from others.
    """
    directory = archive.directory.resolve()
    own = directory.relative_to(scratch.resolve()).parts[0] if scratch.resolve() in directory.parents else ""
    name = own or f"{archive.name}-{archive.version}".replace("/", "_")
    return scratch / f"requirements-{name}"
