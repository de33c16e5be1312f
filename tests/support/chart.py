"""Rendering the chart with whatever Helm is at hand, and checking what comes out."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from support.models import REPOSITORY

CHART = REPOSITORY / "charts" / "predictor"
NO_HELM = "helm is neither on PATH nor in the cluster tool's folder (`cluster install` puts it there)"


class HelmError(Exception):
    """Helm refused; the text is what it wrote."""


def cluster_home() -> Path:
    """Return where the cluster tool keeps everything."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CLUSTER_HOME") or Path(cache) / "cluster")


@functools.cache
def helm() -> str | None:
    """Return the helm program, None where there is none."""
    own = cluster_home() / "bin" / "helm"
    return shutil.which("helm") or (str(own) if own.is_file() else None)


@functools.cache
def validator() -> list[str] | None:
    """Return the command that checks manifests against the schemas, None where it is not installed."""
    tool = REPOSITORY.parent / "shared" / "tools" / "cluster" / "cluster"
    return [str(tool), "validate"] if tool.is_file() and (cluster_home() / "venv").is_dir() else None


def template(values: Mapping[str, Any], *flags: str, chart: Path = CHART) -> list[dict[str, Any]]:
    """Return the objects that the chart makes of `values`.

    Raises:
        HelmError: the chart or its schema refuses them.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(dict(values), file)
        file.flush()
        text = run_helm("template", "rel", str(chart), "--namespace", "models", "--values", file.name, *flags)
    return [document for document in yaml.safe_load_all(text) if document]


def run_helm(*arguments: str) -> str:
    """Run helm away from any cluster; returns what it writes.

    Raises:
        HelmError: it failed.
    """
    program = helm()
    assert program is not None, NO_HELM
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    if done.returncode:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def schema_problems(documents: Sequence[Mapping[str, Any]]) -> str:
    """Check documents by the schemas of Kubernetes and KServe; returns what is wrong, "" for nothing."""
    command = validator()
    assert command is not None, "the cluster tool is not installed"
    done = subprocess.run(
        [*command, "-"],
        input=yaml.safe_dump_all(documents),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def find(documents: Sequence[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the only object of a kind."""
    found = [document for document in documents if document["kind"] == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def pod_spec(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the specification of the pods, whichever mode made them."""
    for document in documents:
        if document["kind"] == "Deployment":
            return document["spec"]["template"]["spec"]
        if document["kind"] == "InferenceService":
            return document["spec"]["predictor"]
        if document["kind"].endswith("ServingRuntime"):
            return document["spec"]
    raise AssertionError("nothing here makes pods")


def container(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the server's container."""
    (found,) = pod_spec(documents)["containers"]
    return found


def environment(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the variables of the server's container, a name once only."""
    variables = container(documents)["env"]
    names = [variable["name"] for variable in variables]
    assert len(names) == len(set(names)), f"a variable comes twice: {names}"
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in variables}
