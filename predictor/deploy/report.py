"""What `predictor status` shows."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from predictor.deploy import access
from predictor.deploy.cluster import Cluster
from predictor.deploy.deploying import explain
from predictor.deploy.diagnosis import condition, is_ready
from predictor.deploy.display import pod_state
from predictor.deploy.waiting import look

# A table that goes to a file or a pipe is not folded.
_WIDE = 400


def show_services(cluster: Cluster, output: str) -> int:
    """Show all InferenceServices of the namespace."""
    services = cluster.services()
    if output == "json":
        return _write_json(services)
    console = _console()
    if not services:
        console.print(Text(f"There is no InferenceService in {cluster.namespace}."))
        return 0
    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "READY", "AGE", "RUNTIME", "URL"):
        table.add_column(heading, overflow="fold")
    for service in services:
        metadata, status = service["metadata"], service.get("status") or {}
        runtime = (
            status.get("servingRuntimeName") or status.get("clusterServingRuntimeName") or "its own image"
        )
        cells = (metadata["name"], _ready(service), _age(metadata), runtime, access.urls(service)[0] or "-")
        table.add_row(*(Text(str(cell)) for cell in cells))
    console.print(table)
    return 0


def show_service(cluster: Cluster, name: str, output: str) -> int:
    """Show one InferenceService, its pods, and why it is not ready; returns 1 when it is not."""
    seen = look(cluster, name)
    if output == "json":
        _write_json(seen.service)
        return 0 if seen.done else 1
    console = _console()
    outside, inside = access.urls(seen.service)
    facts = {
        "ready": _ready(seen.service) if seen.done == is_ready(seen.service) else "rolling out",
        "age": _age(seen.service["metadata"]),
        "URL": outside or "-",
        "inside the cluster": inside or "-",
    }
    table = Table.grid(padding=(0, 3))
    for label, value in facts.items():
        table.add_row(Text(label), Text(value, overflow="fold"))
    for pod in seen.pods:
        table.add_row(Text("pod"), Text(f"{pod['metadata']['name']}  {pod_state(pod)}", overflow="fold"))
    console.print(table)
    if not seen.done:
        console.print()
        explain(console, cluster, seen.findings, seen.hidden)
        return 1
    console.print(
        Text("\n" + "\n".join(access.commands(seen.service, context=cluster.context))), soft_wrap=True
    )
    return 0


def _console() -> Console:
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=_WIDE)


def _write_json(value: Any) -> int:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def _ready(service: Mapping[str, Any]) -> str:
    ready = condition(service, "Ready")
    if not ready:
        return "unknown"
    return "yes" if is_ready(service) else f"no: {ready.get('reason') or 'not said why'}"


def _age(metadata: Mapping[str, Any]) -> str:
    born = str(metadata.get("creationTimestamp") or "")
    try:
        seconds = (
            dt.datetime.now(dt.timezone.utc) - dt.datetime.fromisoformat(born.replace("Z", "+00:00"))
        ).total_seconds()
    except ValueError:
        return "-"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(int(seconds), 0)}s"
