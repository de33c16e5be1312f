"""Packs the archives and records what the real TorchServe answers: the facts of the oracle tests.

    cd tests && python -m support.oracle_record --torchserve VENV [--keep-archives] [GROUP ...]

VENV is a virtual environment with torchserve and torch-model-archiver 0.12.0, torch, torchvision, captum
and torchtext's `data/utils.py` (its wheel loads no longer); Java 11 or newer must be on PATH, and nothing
on PYTHONPATH. Weights are made by the Python that runs this, so it needs torch, too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from support.oracle_cases import CASES
from support.oracle_corpus import ARCHIVES, CORPUS, GROUPS, HANDLERS, RECORDINGS, Archive, Group
from support.oracle_exchange import exchange

_PORTS = {"inference": 28080, "management": 28081, "metrics": 28082}
_START_SECONDS = 120.0


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torchserve", type=Path, required=True, metavar="VENV")
    parser.add_argument("--keep-archives", action="store_true", help="do not pack them again")
    parser.add_argument("--log", type=Path, default=Path(tempfile.gettempdir(), "torchserve-oracle.log"))
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    arguments = parser.parse_args()
    groups = arguments.groups or list(GROUPS)
    binaries = arguments.torchserve.resolve() / "bin"
    if not arguments.keep_archives:
        for store in sorted({GROUPS[name].store for name in groups}):
            pack_store(store, binaries)
    for name in groups:
        record(name, binaries, arguments.log)


def pack_store(store: str, binaries: Path) -> None:
    """Make all archives of one model store anew."""
    shutil.rmtree(ARCHIVES / store, ignore_errors=True)
    (ARCHIVES / store).mkdir(parents=True)
    for archive in CORPUS:
        if archive.store == store:
            with tempfile.TemporaryDirectory() as scratch:
                pack(archive, binaries, Path(scratch))


def pack(archive: Archive, binaries: Path, scratch: Path) -> None:
    """Have torch-model-archiver make one archive."""
    out = _folder(scratch / "out")
    handler, colon, function = archive.handler.partition(":")
    if handler.endswith(".py"):
        # With a function the archiver wants the module's path without the suffix.
        handler = str(HANDLERS / (handler.removesuffix(".py") if function else handler))
    flags: dict[str, Any] = {
        "--model-name": archive.name,
        "--version": archive.version,
        "--handler": handler + colon + function,
        "--archive-format": archive.format,
        "--export-path": out,
    }
    if archive.network:
        from support import oracle_networks

        flags["--serialized-file"] = getattr(oracle_networks, archive.network)(scratch)
    if archive.model_file:
        flags["--model-file"] = HANDLERS / archive.model_file
    if archive.config is not None:
        flags["--config-file"] = _write(scratch / "model-config.yaml", yaml.safe_dump(archive.config))
    if archive.requirements:
        flags["--requirements-file"] = _write(scratch / "requirements.txt", archive.requirements)
    extra = [HANDLERS / name for name in archive.extra]
    extra += [_write(scratch / name, text) for name, text in archive.texts.items()]
    extra += [path for path in [scratch / "source_vocab.pt"] if path.exists()]
    if extra:
        flags["--extra-files"] = ",".join(map(str, extra))
    command = [str(binaries / "torch-model-archiver"), "--force"]
    command += [str(part) for pair in flags.items() for part in pair]
    # It deletes a folder called like the model in the temporary folder.
    subprocess.run(command, check=True, env={**os.environ, "TMPDIR": str(_folder(scratch / "tmp"))})
    (made,) = out.iterdir()
    shutil.move(made, ARCHIVES / archive.store / archive.file)


def record(name: str, binaries: Path, log: Path) -> None:
    """Send the cases of one group to TorchServe and write down its answers."""
    with running(GROUPS[name], binaries, log):
        answers = {
            case.name: exchange(_PORTS["inference"], case, 60.0) for case in CASES if case.group == name
        }
    RECORDINGS.mkdir(exist_ok=True)
    lines = [
        f" {json.dumps(case)}: {json.dumps(found, ensure_ascii=True)}" for case, found in answers.items()
    ]
    (RECORDINGS / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    sys.stdout.write(f"{name}: {len(answers)} cases recorded\n")


@contextmanager
def running(group: Group, binaries: Path, log: Path) -> Iterator[None]:
    """Run TorchServe until every model of the group's store has a worker that is ready."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.properties")
        lines = [f"{key}_address=http://127.0.0.1:{port}" for key, port in _PORTS.items()]
        lines += ["grpc_inference_port=27070", "grpc_management_port=27071", "initial_worker_port=29500"]
        lines += ["default_workers_per_model=1", "disable_system_metrics=true", *group.properties]
        _write(config, "\n".join(lines) + "\n")
        environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        command = ["torchserve", "--start", "--foreground", "--ncs", "--disable-token-auth"]
        command += ["--enable-model-api", "--ts-config", str(config), "--models", "all"]
        command += ["--model-store", str(ARCHIVES / group.store)]
        with log.open("ab") as stream:
            server = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=stream)
        try:
            _wait(group)
            yield
        finally:
            subprocess.run(["torchserve", "--stop", "--foreground"], env=environment, check=False, cwd=folder)
            server.kill()
            server.wait()


def _wait(group: Group) -> None:
    """Wait for the models, all but those that are meant never to load."""
    deadline = time.monotonic() + _START_SECONDS
    names = {
        (item.name, item.version)
        for item in CORPUS
        if item.store == group.store and not item.name.startswith("bad")
    }
    while names:
        if time.monotonic() > deadline:
            raise TimeoutError(f"these models are not ready: {sorted(names)}")
        time.sleep(1)
        names = {model for model in names if not _is_ready(*model)}


def _is_ready(name: str, version: str) -> bool:
    url = f"http://127.0.0.1:{_PORTS['management']}/models/{name}/{version}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            (described,) = json.load(response)
    except OSError:
        return False
    return any(worker["status"] == "READY" for worker in described["workers"])


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
