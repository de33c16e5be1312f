"""The tools of the cluster tests: Docker, Kubernetes, Helm, and load from within the cluster."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from support.chart import CHART, cluster_home, helm
from support.models import REPOSITORY

logger = logging.getLogger(__name__)

TOOL = REPOSITORY.parent / "shared" / "tools" / "cluster" / "cluster"
ASSETS = REPOSITORY / "tests" / "cluster" / "assets"
PATIENCE = 400.0
"""Seconds that a pod may take to become ready on a machine with two busy cores."""


def tool_installed() -> bool:
    """Tell whether the cluster tool is there, with its packages and its Kubernetes."""
    home = cluster_home()
    return TOOL.is_file() and (home / "venv").is_dir() and (home / "kube-bin" / "kubelet").is_file()


@functools.cache
def tool_environment() -> dict[str, str]:
    """Return this environment with the cluster tool's variables, as `eval "$(cluster env)"` sets them."""
    if not tool_installed():
        return dict(os.environ)
    script = f'eval "$({TOOL} env)"; env -0'
    output = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in output.split("\0") if "=" in line)


def run(
    *command: str,
    environment: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout: float = 900,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a command, and fail with what it wrote."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment or tool_environment(),
        cwd=REPOSITORY,
        check=False,
    )
    assert not check or done.returncode == 0, (
        f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the library's name
        """Write no line."""


@contextlib.contextmanager
def pip_configuration() -> Iterator[Path]:
    """Hand the folder of wheels that pip is set to, if any, to a build: over HTTP, leaving no trace."""
    folder = os.environ.get("PIP_FIND_LINKS", "")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "pip.conf"
        certificates = os.environ.get("PIP_CERT", "")
        lines = ["[global]", *([f"cert = {certificates}"] if certificates else [])]
        if not Path(folder).is_dir():
            file.write_text("\n".join(lines) + "\n")
            yield file
            return
        handler = functools.partial(_Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            lines.append(f"find-links = http://127.0.0.1:{server.server_port}/")
            file.write_text("\n".join(lines) + "\n")
            yield file
            server.shutdown()


def build_image(name: str, *flags: str, context: Path = REPOSITORY) -> str:
    """Build the unmodified Dockerfile; returns the image's id."""
    with pip_configuration() as file:
        words = ["--network", "host", "--secret", f"id=pip.conf,src={file}", "-t", name]
        run("docker", "build", *words, *flags, str(context), timeout=1800)
    return run("docker", "image", "inspect", "-f", "{{.Id}}", name).stdout.strip()


class Cluster:
    """A namespace of a real cluster, and releases of the chart in it.

    Attributes:
        image: repository and tag that the nodes have or can pull.
        own: whether the cluster tool made it, so that nodes may be drained and given GPUs.
    """

    def __init__(self, namespace: str, image: str, own: bool) -> None:
        self.namespace = namespace
        self.image = image
        self.own = own
        self._program = helm() or "helm"

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run kubectl in the namespace; returns its output."""
        return run("kubectl", "-n", self.namespace, *arguments, **options).stdout

    def helm(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run helm in the namespace."""
        return run(self._program, "-n", self.namespace, *arguments, **options)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what `kubectl get` knows."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def release(self, name: str, values: Mapping[str, Any], *flags: str, **options: Any) -> Any:
        """Install or upgrade a release with these values."""
        repository, _, tag = self.image.rpartition(":")
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump({"image": {"repository": repository, "tag": tag}, **values}, file)
            file.flush()
            return self.helm("upgrade", "--install", name, str(CHART), "-f", file.name, *flags, **options)

    def pods(self, release: str) -> list[dict[str, Any]]:
        """Return the pods of a release that are not on their way out."""
        return [pod for pod in self._living(release) if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, release: str) -> list[str]:
        """Return the names of the pods that are ready."""
        return [pod["metadata"]["name"] for pod in self.pods(release) if is_ready(pod)]

    def wait_pods(self, release: str, number: int, seconds: float = PATIENCE) -> None:
        """Wait until exactly `number` pods are there, ready, and no others are on their way out."""

        def settled() -> bool:
            pods = self._living(release)
            return len(pods) == number and all(map(is_ready, pods))

        wait_until(settled, seconds, lambda: self.kubectl("get", "pods"))

    def _living(self, release: str) -> list[dict[str, Any]]:
        """Return the pods of a release but those that have ended, as one that a kubelet refused."""
        selector = f"app.kubernetes.io/instance={release},app.kubernetes.io/name=predictor"
        pods: list[dict[str, Any]] = self.get("pods", "-l", selector)["items"]
        return [pod for pod in pods if pod["status"].get("phase") not in ("Failed", "Succeeded")]


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Tell whether Kubernetes calls a pod ready."""
    conditions = pod["status"].get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def wait_until(true: Any, seconds: float = PATIENCE, describe: Any = lambda: "") -> None:
    """Ask once a second, for `seconds` at most."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {describe()}"
        time.sleep(1)


class Load:
    """Requests from a pod of the cluster to a Service, as long as the context lasts.

    Attributes:
        report: `answered`, `lost`, `by` and `why`, after the context.
    """

    def __init__(
        self, cluster: Cluster, service: str, body: object, workers: int = 8, pause: float = 0.05
    ) -> None:
        self._cluster = cluster
        address = cluster.get("service", service)["spec"]["clusterIP"]
        order = {"seconds": 2 * PATIENCE, "body": body, "workers": workers, "pause": pause}
        self._order = {**order, "url": f"http://{address}/predictions/probe"}
        self._pod = "load-" + hashlib.sha256(os.urandom(8)).hexdigest()[:8]
        self.report: dict[str, Any] = {}

    def __enter__(self) -> Load:
        container = {
            "name": "load",
            "image": self._cluster.image,
            "command": ["python", "-c", (ASSETS / "load.py").read_text()],
            "env": [{"name": "LOAD", "value": json.dumps(self._order)}],
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        }
        self._cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": self._pod},
                "spec": {"restartPolicy": "Never", "containers": [container]},
            }
        )
        wait_until(lambda: "started" in self._log(), 120, self._log)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self._cluster.kubectl("exec", self._pod, "--", "touch", "/tmp/stop")
            wait_until(lambda: '"lost"' in self._log(), 120, self._log)
            self.report = json.loads(self._log().splitlines()[-1])
            logger.info("load: %s", self.report)
        self._cluster.kubectl("delete", "pod", self._pod, "--wait=false", "--grace-period=0", "--force")

    def _log(self) -> str:
        return self._cluster.kubectl("logs", self._pod, check=False)


def have_docker() -> bool:
    """Tell whether a container engine answers."""
    environment = tool_environment()
    if shutil.which("docker", path=environment.get("PATH")) is None:
        return False
    return run("docker", "version", check=False, timeout=30).returncode == 0
