"""The API server: how it is found, and the few things that are asked of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from predictor.deploy.errors import ClusterError, NoCluster, refusal

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
FIELD_MANAGER = "predictor"
# Seconds to connect, and to wait for an answer.
_TIMEOUT = (5, 30)
_TOKEN_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Object = dict[str, Any]


class Cluster:
    """One API server and one namespace of it; every method raises ClusterError when refused.

    Attributes:
        namespace: the one that is worked in.
        context: of the kubeconfig, or empty inside a cluster.
        address: of the API server.
    """

    def __init__(self, kubeconfig: str = "", context: str = "", namespace: str = "") -> None:
        """Find the cluster as kubectl does; nothing is sent yet.

        Args:
            kubeconfig: a file; by default $KUBECONFIG, ~/.kube/config, or the pod that this runs in.
            context: by default the file's current one.
            namespace: by default the context's, or the pod's.
        """
        settings = client.Configuration()
        self.context, found = _load(settings, kubeconfig, context)
        self.namespace = namespace or found
        self.address = str(settings.host)
        # Retries would turn a wrong address into a minute of silence.
        settings.retries = False
        api = client.ApiClient(settings)
        self._core: Any = client.CoreV1Api(api)
        self._custom: Any = client.CustomObjectsApi(api)

    def apply(self, body: Mapping[str, Any], *, dry_run: bool = False, force: bool = False) -> Object:
        """Apply an InferenceService on the server's side; returns what the server makes of it.

        Args:
            dry_run: let the server check and complete it, and keep nothing.
            force: take over fields that another tool has set.
        """
        name = body["metadata"]["name"]
        return self._ask(
            f"apply InferenceService {name}",
            self._custom.patch_namespaced_custom_object,
            **self._service(name),
            body=body,
            field_manager=FIELD_MANAGER,
            field_validation="Strict",
            force=force,
            _content_type="application/apply-patch+yaml",
            **({"dry_run": "All"} if dry_run else {}),
        )

    def service(self, name: str) -> Object | None:
        """Return an InferenceService, or None where there is none of this name."""
        try:
            return self._ask(
                f"read InferenceService {name}",
                self._custom.get_namespaced_custom_object,
                **self._service(name),
            )
        except ClusterError as error:
            if error.is_missing_object:
                return None
            raise

    def services(self) -> list[Object]:
        """Return all InferenceServices of the namespace."""
        return _items(
            self._ask(
                "list InferenceServices",
                self._custom.list_namespaced_custom_object,
                GROUP,
                VERSION,
                self.namespace,
                PLURAL,
            )
        )

    def delete(self, name: str) -> bool:
        """Delete an InferenceService; returns whether there was one."""
        if self.service(name) is None:
            return False
        self._ask(
            f"delete InferenceService {name}",
            self._custom.delete_namespaced_custom_object,
            **self._service(name),
        )
        return True

    def pods(self, name: str) -> list[Object]:
        """Return the pods of an InferenceService."""
        return _items(
            self._ask(
                "list pods",
                self._core.list_namespaced_pod,
                self.namespace,
                label_selector=f"{SERVICE_LABEL}={name}",
            )
        )

    def deployments(self, name: str) -> list[Object]:
        """Return the Deployments that KServe made for an InferenceService (Standard mode)."""
        return _items(
            self._ask(
                "list deployments",
                self._custom.list_namespaced_custom_object,
                "apps",
                "v1",
                self.namespace,
                "deployments",
                label_selector=f"{SERVICE_LABEL}={name}",
            )
        )

    def warnings(self) -> list[Object]:
        """Return the namespace's events of type Warning, oldest first."""
        answer = self._ask(
            "list events", self._core.list_namespaced_event, self.namespace, field_selector="type=Warning"
        )
        return sorted(_items(answer), key=_seen_last)

    def log(self, pod: str, container: str, *, previous: bool = False, lines: int = 20) -> str:
        """Return the end of a container's log, or of the one before its last restart."""
        return self._ask_text(
            f"read the log of {pod}",
            self._core.read_namespaced_pod_log,
            pod,
            self.namespace,
            container=container,
            previous=previous,
            tail_lines=lines,
        )

    def _service(self, name: str) -> dict[str, str]:
        return {
            "group": GROUP,
            "version": VERSION,
            "namespace": self.namespace,
            "plural": PLURAL,
            "name": name,
        }

    def _ask(self, action: str, call: Callable[..., Any], *place: str, **options: Any) -> Object:
        """Make a call that answers with JSON."""
        text = self._ask_text(action, call, *place, **options)
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise self._unreachable(action, error) from error

    def _ask_text(self, action: str, call: Callable[..., Any], *place: str, **options: Any) -> str:
        """Make a call; what the client raises becomes a ClusterError that says what was tried.

        The answer is read as it came: the client's types differ between its releases, and it returns
        nothing for the status 201 of a first apply.
        """
        try:
            answer = call(*place, **options, _preload_content=False, _request_timeout=_TIMEOUT)
            return bytes(answer.data).decode(errors="replace")
        except client.ApiException as error:
            raise refusal(error.status, error.reason or "", error.body, action) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(action, error) from error

    def _unreachable(self, action: str, error: Exception) -> ClusterError:
        return ClusterError(
            f"cannot {action}: nothing answers as an API server at {self.address}: {_cause(error)}",
            "Is the cluster running, and is this the right context? kubectl config get-contexts",
        )


def _load(settings: client.Configuration, kubeconfig: str, context: str) -> tuple[str, str]:
    """Fill `settings`; returns the context's name and its namespace."""
    files = kubeconfig or os.environ.get("KUBECONFIG", "")
    if not files and not Path("~/.kube/config").expanduser().exists():
        return "", _load_in_cluster(settings)
    loader: Any = config
    try:
        loader.load_kube_config(
            files or None, context or None, client_configuration=settings, persist_config=False
        )
        contexts, active = loader.list_kube_config_contexts(files or None)
    except (ConfigException, OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ClusterError(
            f"cannot use the kubeconfig {files or '~/.kube/config'}: {_cause(error)}",
            "kubectl config get-contexts shows what is there; --kubeconfig and --context choose.",
        ) from error
    chosen = next((one for one in contexts if one["name"] == context), active)
    return str(chosen["name"]), str(chosen.get("context", {}).get("namespace") or "default")


def _load_in_cluster(settings: client.Configuration) -> str:
    loader: Any = config
    try:
        loader.load_incluster_config(client_configuration=settings)
    except ConfigException as error:
        raise NoCluster(
            "no cluster: there is no ~/.kube/config, KUBECONFIG is not set, and this is not a pod",
            "docs/kubernetes.md starts a cluster on this machine with one command (make kind-up).",
        ) from error
    namespace = _TOKEN_FOLDER / "namespace"
    return namespace.read_text(encoding="utf-8").strip() if namespace.exists() else "default"


def _items(answer: Mapping[str, Any]) -> list[Object]:
    return list(answer.get("items") or [])


def _seen_last(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _cause(error: BaseException) -> str:
    """Return the innermost reason; urllib3 wraps it several times."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _cause(inner)
    return str(error).rpartition(": ")[2] if isinstance(error, urllib3.exceptions.HTTPError) else str(error)
