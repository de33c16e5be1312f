"""A container engine and a cluster for the tests of this folder: the cluster tool's, or the user's.

    CLUSTER_IMAGE=repo:tag   an image that the cluster has or can pull; otherwise it is built and loaded
    KUBECONFIG=FILE          the cluster to use where ../shared/tools/cluster is not installed

What is started here is stopped again; what was there stays.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

import pytest
from support.chart import NO_HELM, cluster_home, helm
from support.cluster import REPOSITORY, TOOL, Cluster, build_image, have_docker, run, tool_installed

from predictor import __version__

_NO_DOCKER = "no container engine: ../shared/tools/cluster is not installed, and `docker version` fails"
_NO_CLUSTER = (
    "no cluster: ../shared/tools/cluster is not installed (`cluster install`, `cluster k8s-build`), "
    "and KUBECONFIG names none"
)
_NO_IMAGE = "CLUSTER_IMAGE does not say which image the cluster of KUBECONFIG can pull"
_CRDS = REPOSITORY.parent / "shared" / "data" / "crds"


@pytest.fixture(scope="session")
def docker():
    """A container engine that answers."""
    if tool_installed():
        was_up = have_docker()
        run(str(TOOL), "docker-up")
        yield
        if not was_up:
            run(str(TOOL), "docker-down")
    elif have_docker():
        yield
    else:
        pytest.skip(_NO_DOCKER)


@pytest.fixture(scope="session")
def image(docker):
    """The image, built from the Dockerfile as it is, under a name that belongs to its content."""
    if os.environ.get("CLUSTER_IMAGE"):
        return os.environ["CLUSTER_IMAGE"]
    name = f"predictor:{__version__}"
    identity = build_image(name, "--build-arg", f"VERSION={__version__}").removeprefix("sha256:")
    tag = f"predictor:test-{identity[:12]}"
    run("docker", "tag", name, tag)
    return tag


@pytest.fixture(scope="session")
def kubernetes():
    """A running cluster; tells whether it is the cluster tool's."""
    if helm() is None:
        pytest.skip(NO_HELM)
    if tool_installed():
        was_up = run(str(TOOL), "status", check=False).returncode == 0
        run(str(TOOL), "up", "--crds", str(_CRDS))
        yield True
        if not was_up:
            run(str(TOOL), "down")
    elif os.environ.get("KUBECONFIG") and os.environ.get("CLUSTER_IMAGE"):
        yield False
    else:
        pytest.skip(_NO_IMAGE if os.environ.get("KUBECONFIG") else _NO_CLUSTER)


@pytest.fixture(scope="session", autouse=True)
def everything_up(request):
    """Have the tool's cluster up, with the image, before a test looks for a cluster by itself."""
    if tool_installed() and any(item.path.name != "test_image.py" for item in request.session.items):
        request.getfixturevalue("cluster")


@pytest.fixture(scope="session")
def cluster(kubernetes, request):
    """A namespace of its own in the cluster, whose node has the image."""
    wanted = os.environ.get("CLUSTER_IMAGE") or request.getfixturevalue("image")
    if kubernetes and not _node_has(wanted):
        # The version's own name too: `predictor deploy` and the manifests use that.
        names = [wanted] if os.environ.get("CLUSTER_IMAGE") else [wanted, f"predictor:{__version__}"]
        run(str(TOOL), "load-image", *names)
    found = Cluster(f"predictor-test-{secrets.token_hex(3)}", wanted, kubernetes)
    run("kubectl", "create", "namespace", found.namespace)
    yield found
    run("kubectl", "delete", "namespace", found.namespace, "--timeout=180s", check=False)


def _node_has(image: str) -> bool:
    socket = cluster_home() / "run" / "containerd.sock"
    if not Path(socket).exists():
        return False
    listing = subprocess.run(
        ["ctr", "-a", str(socket), "-n", "k8s.io", "images", "ls", "-q"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"docker.io/library/{image}" in listing.stdout.splitlines()
