"""How to call a service that is ready."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

# The domain that KServe's configuration comes with: nobody's DNS knows the service there.
_PLACEHOLDER_DOMAIN = "example.com"
_INSIDE = ".cluster.local"


def urls(service: Mapping[str, Any]) -> tuple[str, str]:
    """Return where a service is reached from outside, and from inside the cluster; empty where nowhere."""
    status = service.get("status") or {}
    return str(status.get("url") or ""), str((status.get("address") or {}).get("url") or "")


def is_reachable(url: str) -> bool:
    """Whether the host of a URL can mean anything outside the cluster."""
    host = urlsplit(url).hostname or ""
    return bool(host) and not host.endswith(_INSIDE) and not host.endswith(f".{_PLACEHOLDER_DOMAIN}")


def commands(service: Mapping[str, Any], *, context: str = "", ingress: str = "") -> list[str]:
    """Return shell commands that call a service from this machine, each to be pasted as it is.

    The metadata route is asked, because it needs no input and says which input the others take.

    Args:
        context: of the kubeconfig, for a port-forward.
        ingress: address at which this machine reaches the cluster's ingress.
    """
    metadata = service["metadata"]
    path = f"/v2/models/{metadata['name']}"
    url, _ = urls(service)
    host = urlsplit(url).netloc
    if ingress and host:
        return [f"curl -H {shlex.quote(f'Host: {host}')} {shlex.quote(ingress.rstrip('/') + path)}"]
    if is_reachable(url):
        return [f"curl {shlex.quote(url.rstrip('/') + path)}"]
    if (service.get("status") or {}).get("deploymentMode") == "Knative":
        return [f"curl -H {shlex.quote(f'Host: {host}')} http://ADDRESS-OF-THE-INGRESS{path}"]
    where = f"--context {shlex.quote(context)} " if context else ""
    where += f"-n {metadata['namespace']}"
    return [
        f"kubectl {where} port-forward service/{metadata['name']}-predictor 8080:80 &",
        # Pasted together with the line above, it comes before the port is open.
        f"curl --retry 9 --retry-connrefused http://127.0.0.1:8080{path}",
    ]
