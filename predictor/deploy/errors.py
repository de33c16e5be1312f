"""What may go wrong between this machine and a cluster, in words for the person who asked.

no kubeconfig, unknown context    ClusterError, before anything is sent
nothing answers                   ClusterError naming the address
401, 403, 404, 409, 422           ClusterError with the API server's own sentence and what to do
"""

from __future__ import annotations

import json
from typing import Any

_KSERVE_GROUP = "serving.kserve.io"


class DeployError(Exception):
    """A command cannot do what it was asked to.

    Attributes:
        hint: what the person can do about it, or an empty string.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        """Remember `message`, one sentence, and what to do about it."""
        super().__init__(message)
        self.hint = hint


class WrongInput(DeployError):
    """The command line asks for something that cannot be."""


class ClusterError(DeployError):
    """The cluster cannot be reached, or refuses.

    Attributes:
        is_missing_object: whether the cluster knows the kind, and has no object of that name.
    """

    is_missing_object = False


class NoCluster(ClusterError):
    """Nothing says which cluster is meant."""


def refusal(status: int, reason: str, body: Any, action: str) -> ClusterError:
    """Turn an API server's answer into an error.

    Args:
        status: the HTTP status.
        reason: its phrase, for answers without a message.
        body: what was answered: a Kubernetes `Status` as text or bytes, or anything.
        action: what was tried, as in "apply InferenceService digits".
    """
    answer = _status_object(body)
    message = str(answer.get("message") or "").strip() or f"{status} {reason}".strip()
    error = ClusterError(f"cannot {action}: {message}", _hint(status, answer, message))
    error.is_missing_object = status == 404 and _is_named(answer)
    return error


def _status_object(body: Any) -> dict[str, Any]:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        answer = json.loads(text)
    except ValueError:
        return {"message": text[:500]}
    return answer if isinstance(answer, dict) else {}


def _is_named(answer: dict[str, Any]) -> bool:
    """Tell a missing object from a missing kind, whose answer names nothing."""
    return bool((answer.get("details") or {}).get("name"))


def _hint(status: int, answer: dict[str, Any], message: str) -> str:
    if status == 401:
        return "The cluster does not know these credentials; log in again, or choose another --context."
    if status == 403:
        return (
            "Ask for a role such as manifests/rbac/deployer.yaml, or use another --context or --namespace. "
            "`kubectl auth can-i --list` shows what is allowed."
        )
    if status == 404:
        return _missing(answer, message)
    if status == 409:
        return "Another tool owns these fields; --force-conflicts takes them over."
    return ""


def _missing(answer: dict[str, Any], message: str) -> str:
    details = answer.get("details") or {}
    if details.get("kind") == "namespaces" or message.startswith("namespaces "):
        return f"Create it: kubectl create namespace {details.get('name', 'NAME')}"
    if not _is_named(answer):
        return (
            f"The cluster has no {_KSERVE_GROUP}: KServe is not installed there. docs/kubernetes.md says "
            "how to install it, and how to serve without it with the chart's plain Deployment."
        )
    return ""
