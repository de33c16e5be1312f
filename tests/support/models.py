"""Model folders made on the fly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

_HANDLERS = Path(__file__).parent / "handlers"
REPOSITORY = Path(__file__).resolve().parent.parent.parent
SAMPLES = REPOSITORY / "model_store"


def make_model(
    store: Path, name: str, code: str = "probe", /, *, version: str = "1.0", folder: str = "", **config: Any
) -> Path:
    """Write the model folder `store/name` with the handler `handlers/{code}.py`; returns the folder.

    `config` becomes model-config.yaml, with TorchServe's keys: batchSize=8, handler={"journal": ...}.
    """
    directory = store / (folder or name)
    (directory / "MAR-INF").mkdir(parents=True)
    shutil.copy(_HANDLERS / f"{code}.py", directory / f"{code}.py")
    (directory / "model-config.yaml").write_text(yaml.safe_dump(config))
    model = {
        "modelName": name,
        "modelVersion": version,
        "handler": f"{code}.py",
        "configFile": "model-config.yaml",
    }
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    (directory / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    return directory


def link_sample(store: Path, name: str) -> bool:
    """Put a sample model of the repository into `store`; False when it has no trained weights here."""
    source = SAMPLES / name
    if not (source / "model.pt").is_file():
        return False
    shutil.copytree(source, store / name)
    return True


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return what the probe handlers noted: one dict (tag, pid, call) for each row that was computed."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
