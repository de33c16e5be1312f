from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

_TOOL = Path(__file__).parents[3] / "shared" / "tools" / "cluster"


@pytest.fixture(scope="session")
def kustomize():
    """Build an overlay with the real kustomize, which kubectl carries."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl is on PATH")

    def build(folder: Path) -> list[dict]:
        result = subprocess.run(
            [*command, str(folder)], check=False, capture_output=True, text=True, timeout=60
        )
        if result.returncode and "unknown command" in result.stderr:
            pytest.skip("this kubectl is too old to know kustomize")
        assert result.returncode == 0, result.stderr
        return [document for document in yaml.safe_load_all(result.stdout) if document]

    return build


@pytest.fixture(scope="session")
def validate(tmp_path_factory):
    """Check with the schemas of Kubernetes 1.37 and KServe's CRDs; returns what is wrong, a line each."""
    home = Path(os.environ.get("CLUSTER_HOME", Path.home() / ".cache" / "cluster"))
    python = home / "venv" / "bin" / "python"
    if not _TOOL.is_dir() or not python.exists():
        pytest.skip("`cluster install` of shared/tools/cluster has not been run here")

    def run(documents: list[dict]) -> list[str]:
        file = tmp_path_factory.mktemp("manifests") / "all.yaml"
        file.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
        result = subprocess.run(
            [str(python), str(_TOOL / "validate.py"), str(file)],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        *lines, summary = result.stdout.splitlines() or [""]
        assert summary.startswith(f"{len(documents)} objects checked"), result.stdout + result.stderr
        return lines

    return run
