"""What `predictor deploy` does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from predictor.deploy import access
from predictor.deploy.cluster import Cluster
from predictor.deploy.diagnosis import Finding
from predictor.deploy.display import Progress
from predictor.deploy.errors import ClusterError, WrongInput
from predictor.deploy.manifest import Deployment, inference_service
from predictor.deploy.waiting import Outcome, Patience, Snapshot, wait

_INTERRUPTED = 130
# A server that is not ready notes every probe that asks it; what went wrong stands before them.
_PROBE = "/v2/health/"
_READ_LINES, _SHOWN_LINES = 400, 20
# A line may be a whole picture in base64; of a long one the beginning says what it is.
_LONGEST_LINE = 500


def wanted(arguments: argparse.Namespace, namespace: str) -> Deployment:
    """Return what the command line asks for.

    Raises:
        WrongInput: it asks for something that cannot be.
    """
    return Deployment(
        name=arguments.name,
        namespace=namespace,
        model=arguments.model,
        image=arguments.image,
        runtime=arguments.runtime,
        gpus=arguments.gpus,
        gpu_resource=arguments.gpu_resource,
        cpu=arguments.cpu,
        memory=arguments.memory,
        min_replicas=arguments.min_replicas,
        max_replicas=arguments.max_replicas,
        mode=arguments.mode,
        service_account=arguments.service_account,
        environment=dict(_variable(one) for one in arguments.env),
        arguments=arguments.arg,
        pull_secrets=arguments.pull_secret,
    )


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise WrongInput(f"--env {text}: expected NAME=VALUE")
    return name, value


def render(asked: Deployment) -> int:
    """Print the manifest."""
    sys.stdout.write(yaml.safe_dump(inference_service(asked), sort_keys=False))
    return 0


def render_on_server(cluster: Cluster, asked: Deployment, *, force: bool) -> int:
    """Print what the cluster would make of it, after its checks, defaults and webhooks."""
    result = cluster.apply(inference_service(asked), dry_run=True, force=force)
    result["metadata"].pop("managedFields", None)
    sys.stdout.write(yaml.safe_dump(result, sort_keys=False))
    return 0


def deploy(cluster: Cluster, asked: Deployment, arguments: argparse.Namespace) -> int:
    """Apply, wait, and say how to call it or why it does not come up; returns the exit status."""
    console = Console(stderr=True, highlight=False)
    before = cluster.service(asked.name)
    after = cluster.apply(inference_service(asked), force=arguments.force_conflicts)
    console.print(Text(f"{asked.name} in {cluster.namespace}: {_change(before, after)}"))
    if arguments.no_wait:
        return 0
    patience = Patience(timeout=arguments.timeout)
    try:
        with Progress(console, asked.name) as progress:
            outcome, seen = wait(cluster, asked.name, patience, progress.show, new=before is None)
    except KeyboardInterrupt:
        _say(console, "Not waiting any longer. It stays in the cluster and goes on by itself:")
        _say(console, *_next(asked.name, cluster))
        return _INTERRUPTED
    if outcome is Outcome.READY:
        _show_ready(console, cluster, seen, arguments.ingress)
        return 0
    _show_failure(console, cluster, asked, seen, outcome, arguments.timeout)
    return 1


def _change(before: dict[str, Any] | None, after: dict[str, Any]) -> str:
    if before is None:
        return "created"
    same = before["metadata"].get("generation") == after["metadata"].get("generation")
    return "unchanged" if same else "changed"


def _show_ready(console: Console, cluster: Cluster, seen: Snapshot, ingress: str) -> None:
    name = seen.service["metadata"]["name"]
    outside, inside = access.urls(seen.service)
    _say(console, f"{name} is ready, after {seen.elapsed:.0f} s.")
    lines = []
    if outside and outside != inside:
        lines.append(f"URL                 {outside}")
    if inside:
        lines.append(f"inside the cluster  {inside}")
    commands = access.commands(seen.service, context=cluster.context, ingress=ingress)
    print("\n".join([*lines, "", "# what it takes and answers", *commands]).lstrip("\n"))


def _show_failure(
    console: Console, cluster: Cluster, asked: Deployment, seen: Snapshot, outcome: Outcome, timeout: float
) -> None:
    if outcome is Outcome.LATE:
        console.print(Text(f"{asked.name} is not ready after {timeout:.0f} s:", "bold red"))
    else:
        console.print(Text(f"{asked.name} cannot become ready:", "bold red"))
    explain(console, cluster, seen.findings, seen.hidden)
    _say(console, "", *_next(asked.name, cluster))


def explain(
    console: Console, cluster: Cluster, findings: Sequence[Finding], hidden: Sequence[str] = ()
) -> None:
    """Write why a service is not ready: reasons, hints, and the end of the logs that may tell more."""
    for finding in findings:
        _say(console, f"- {finding.text}")
        if finding.hint:
            _say(console, f"  {finding.hint}")
    if not findings:
        _say(console, "- nothing is wrong that can be seen from here")
    for pod, container, crashed in dict.fromkeys(
        (finding.pod, finding.container, finding.crashed) for finding in findings if finding.pod
    ):
        _show_log(console, cluster, pod, container, crashed=crashed)
    for text in hidden:
        _say(console, f"(not seen: {text})")


def _show_log(console: Console, cluster: Cluster, pod: str, container: str, *, crashed: bool) -> None:
    try:
        log = cluster.log(pod, container, previous=crashed, lines=_READ_LINES)
    except ClusterError as error:
        _say(console, f"(not seen: {error})")
        return
    _say(console, "", f"The end of the log of {container} in {pod}:")
    lines = [line for line in log.rstrip().splitlines() if _PROBE not in line][-_SHOWN_LINES:]
    _say(console, *(f"  {_cut(line)}" for line in lines or ["(empty)"]))


def _cut(line: str) -> str:
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[:_LONGEST_LINE]}... ({len(line) - _LONGEST_LINE} characters more)"


def _next(name: str, cluster: Cluster) -> list[str]:
    where = f" -n {cluster.namespace}" + (f" --context {cluster.context}" if cluster.context else "")
    return [f"  predictor status {name}{where}", f"  predictor delete {name}{where}"]


def _say(console: Console, *lines: str) -> None:
    """Write lines as they are: a log is no markup, and a command must not be broken."""
    for line in lines:
        console.print(Text(line), soft_wrap=True)
