"""Waiting for an InferenceService: until it is ready, cannot become ready, or takes too long."""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from predictor.deploy.diagnosis import Finding, findings, is_current, is_ready, rolled_out
from predictor.deploy.errors import ClusterError

Object = Mapping[str, Any]

# Readings that may fail in a row: an API server that restarts is back after a few.
_TOLERATED_FAILURES = 5
# Seconds that a status without observedGeneration is not believed for: it may be the old one's.
_SETTLING = 5.0


class Deleted(ClusterError):
    """The service is not there."""


class Readable(Protocol):
    """What is read of a cluster."""

    def service(self, name: str) -> dict[str, Any] | None:
        """Return the InferenceService."""

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return its pods."""

    def deployments(self, name: str) -> list[dict[str, Any]]:
        """Return its Deployments."""

    def warnings(self) -> list[dict[str, Any]]:
        """Return the namespace's warnings."""


class Outcome(enum.Enum):
    """How a wait ended."""

    READY = "ready"
    HOPELESS = "hopeless"
    LATE = "late"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a look at the cluster found.

    Attributes:
        elapsed: seconds since the wait began.
        hidden: what could not be read, a sentence each: reading pods may be forbidden.
    """

    service: Object
    pods: Sequence[Object]
    findings: Sequence[Finding]
    done: bool
    elapsed: float
    hidden: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to wait.

    Attributes:
        timeout: seconds in all.
        interval: seconds between two looks.
        doubt: seconds for which a hopeless pod is not believed: it may be one of the version before.
    """

    timeout: float = 600.0
    interval: float = 1.0
    doubt: float = 10.0


def wait(
    cluster: Readable, name: str, patience: Patience, show: Callable[[Snapshot], None], *, new: bool
) -> tuple[Outcome, Snapshot]:
    """Look at the service again and again.

    Args:
        show: is called with every look.
        new: whether there was no such service before; then every status is of this version.

    Raises:
        ClusterError: the cluster stopped answering, or the service was deleted meanwhile.
    """
    began = time.monotonic()
    failures = 0
    while True:
        try:
            seen = look(cluster, name, began=began, trusted=new)
            failures = 0
        except Deleted:
            raise
        except ClusterError:
            failures += 1
            if failures > _TOLERATED_FAILURES:
                raise
            time.sleep(patience.interval)
            continue
        show(seen)
        if seen.done:
            return Outcome.READY, seen
        hopeless = any(finding.hopeless for finding in seen.findings)
        if hopeless and (new or seen.elapsed >= patience.doubt):
            return Outcome.HOPELESS, seen
        if seen.elapsed >= patience.timeout:
            return Outcome.LATE, seen
        time.sleep(min(patience.interval, max(patience.timeout - seen.elapsed, 0.01)))


def look(cluster: Readable, name: str, *, began: float | None = None, trusted: bool = True) -> Snapshot:
    """Read everything about a service once.

    Args:
        began: when the wait began, on the monotonic clock.
        trusted: whether a status without observedGeneration is believed at once.

    Raises:
        ClusterError: it cannot be read, or there is none.
    """
    service = cluster.service(name)
    if service is None:
        raise Deleted(f"there is no InferenceService {name}")
    hidden: list[str] = []
    pods = _newest(_optional(lambda: cluster.pods(name), hidden))
    deployments = _optional(lambda: cluster.deployments(name), hidden)
    elapsed = time.monotonic() - (began if began is not None else time.monotonic())
    current = is_current(service)
    if current is None:
        current = trusted or elapsed >= _SETTLING
    done = current and is_ready(service) and all(rolled_out(one) for one in deployments)
    reasons = [] if done else findings(service, pods, _optional(cluster.warnings, hidden))
    return Snapshot(service, pods, reasons, done, elapsed, hidden)


def _optional(read: Callable[[], list[dict[str, Any]]], hidden: list[str]) -> list[dict[str, Any]]:
    """Read what only helps to explain; a role may forbid it."""
    try:
        return read()
    except ClusterError as error:
        hidden.append(str(error))
        return []


def _newest(pods: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pods of each component's newest version: the others are on their way out."""
    newest: dict[str, tuple[str, str]] = {}
    for pod in pods:
        component, version = _version(pod)
        born = str(pod["metadata"].get("creationTimestamp") or "")
        newest[component] = max(newest.get(component, ("", "")), (born, version))
    kept = {component: version for component, (_, version) in newest.items()}
    return [pod for pod in pods if kept[_version(pod)[0]] == _version(pod)[1]]


def _version(pod: Mapping[str, Any]) -> tuple[str, str]:
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get("component", "")), str(labels.get("pod-template-hash", ""))
