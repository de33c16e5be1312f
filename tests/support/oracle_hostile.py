"""Archives that nobody should make, written by hand because no archiver would."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

MANIFEST = "MAR-INF/MANIFEST.json"
ECHO = "def handle(data, context):\n    return None if data is None else ['fine'] * len(data)\n"
_FAILING_INITIALIZE = """
class A:
    def initialize(self, context):
        raise KeyError("in initialize")

    def handle(self, data, context):
        pass
"""
QUICK = "maxRetryTimeoutInSec: 1\n"


def write_mar(path: Path, files: dict[str, bytes | str], **model: Any) -> Path:
    """Write a zip archive with a manifest for the handler `h.py`, unless `files` has one."""
    files = {MANIFEST: manifest(path.stem, **model), **files}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def manifest(name: str, **model: Any) -> str:
    """Return a manifest."""
    described = {"modelName": name, "modelVersion": "1.0", "handler": "h.py", **model}
    return json.dumps({"runtime": "python", "model": described, "archiverVersion": "0.12.0"})


def failing_code(path: Path, code: str, config: str = QUICK) -> Path:
    """Write an archive whose handler is `code`."""
    files = {"h.py": code, "model-config.yaml": config}
    return write_mar(path, files, configFile="model-config.yaml")


def zip_link(path: Path, points_to: str) -> Path:
    """Write an archive with a symbolic link, as Info-ZIP stores them."""
    write_mar(path, {"h.py": ECHO})
    link = zipfile.ZipInfo("stolen.txt")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, points_to)
    return path


def tar_with(path: Path, **special: Any) -> Path:
    """Write a .tar.gz with one member that has the attributes `special` of `tarfile.TarInfo`."""
    with tarfile.open(path, "w:gz") as archive:
        name = path.name.removesuffix(".tar.gz")
        for file, text in {MANIFEST: manifest(name), "h.py": ECHO}.items():
            info = tarfile.TarInfo(file)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
        info = tarfile.TarInfo("special")
        for key, value in special.items():
            setattr(info, key, value)
        archive.addfile(info)
    return path


def zip_bomb(path: Path, size: int) -> Path:
    """Write an archive with `size` zeros, which deflate to a thousandth."""
    write_mar(path, {"h.py": ECHO})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.bin", "w") as bomb:
        for _ in range(size >> 20):
            bomb.write(bytes(1 << 20))
    return path


def bad_archives(store: Path) -> dict[str, str]:
    """Write archives that cannot be opened; returns what the log must say of each, by file name."""
    outside = store.parent / "outside.txt"
    write_mar(store / "climb.mar", {"h.py": ECHO, "../outside.txt": "escaped"})
    write_mar(store / "absolute.mar", {"h.py": ECHO, str(outside): "escaped"})
    write_mar(store / "nohandler.mar", {"other.py": ECHO})
    write_mar(store / "nojson.mar", {MANIFEST: "{not json", "h.py": ECHO})
    write_mar(store / "listed.mar", {MANIFEST: "[]", "h.py": ECHO})
    write_mar(store / "nameless.mar", {MANIFEST: '{"model": {"modelName": ["a"]}}', "h.py": ECHO})
    write_mar(store / "badname.mar", {"h.py": ECHO, "a\\..\\b": "backslashes"})
    zip_link(store / "ziplink.mar", "/etc/passwd")
    zip_bomb(store / "bomb.mar", 300 << 20)
    tar_with(store / "tarlink.tar.gz", type=tarfile.SYMTYPE, linkname="../../../etc/passwd")
    tar_with(store / "hardlink.tar.gz", type=tarfile.LNKTYPE, linkname="/etc/passwd")
    tar_with(store / "pipe.tar.gz", type=tarfile.FIFOTYPE)
    tar_with(store / "device.tar.gz", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    tar_with(store / "tarclimb.tar.gz", name="../outside.txt")
    (store / "empty.mar").write_bytes(b"")
    (store / "noarchive.mar").write_bytes(b"this is no archive at all")
    whole = write_mar(store / "cut.mar", {"h.py": ECHO, "weights.bin": bytes(range(256)) * 100}).read_bytes()
    (store / "cut.mar").write_bytes(whole[: len(whole) // 2])
    return {
        "climb.mar": "../outside.txt",
        "absolute.mar": "outside.txt",
        "nohandler.mar": "h.py",
        "nojson.mar": "MANIFEST.json",
        "listed.mar": "MANIFEST.json",
        "nameless.mar": "modelName",
        "badname.mar": "a\\",
        "ziplink.mar": "stolen.txt",
        "bomb.mar": "bomb.bin",
        "tarlink.tar.gz": "special",
        "hardlink.tar.gz": "special",
        "pipe.tar.gz": "special",
        "device.tar.gz": "special",
        "tarclimb.tar.gz": "../outside.txt",
        "empty.mar": "neither a zip",
        "noarchive.mar": "neither a zip",
        "cut.mar": "cut",
    }


def bad_models(store: Path) -> dict[str, str]:
    """Write archives whose models cannot be loaded; returns what the log must say, by model name."""
    codes = {
        "raises": ("raise RuntimeError('at import')", "RuntimeError: at import"),
        "syntax": ("def handle(data, context:\n", "SyntaxError"),
        "imports": ("import no_such_module_anywhere\n" + ECHO, "no_such_module_anywhere"),
        "exits": ("import sys\nsys.exit(3)", "SystemExit"),
        "hardexits": ("import os\nos._exit(3)", "exited with code 3"),
        "hangs": ("import time\ntime.sleep(600)", "loading took too long"),
        "classes": ("class A: pass\nclass B: pass\n", "A, B"),
        "nothing": ("x = 1\n", "exactly one class"),
        "nohandle": ("class A:\n    def initialize(self, context): pass\n", "no method 'handle'"),
        "initialize": (_FAILING_INITIALIZE, "in initialize"),
        "kills": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    }
    for name, (code, _) in codes.items():
        failing_code(store / f"{name}.mar", code, QUICK + ("startupTimeout: 5\n" if name == "hangs" else ""))
    return {name: text for name, (_, text) in codes.items()}
