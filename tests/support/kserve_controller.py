"""KServe's controller, as far as a test of `predictor deploy` needs it.

Where a cluster has KServe's kinds and no controller, this makes a Deployment and a Service of an
InferenceService with a container of its own, and tells in its status how the Deployment does. The pods are
real: scheduler, kubelet and container engine do what they do.
"""

from __future__ import annotations

import threading
from typing import Any

from kubernetes import client

_GROUP = ("serving.kserve.io", "v1beta1")
_LABEL = "serving.kserve.io/inferenceservice"


class Controller:
    """Acts on the InferenceServices of one namespace; a context manager."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._custom: Any = client.CustomObjectsApi(api)
        self._core: Any = client.CoreV1Api(api)
        self._apps: Any = client.AppsV1Api(api)
        self._namespace = namespace
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Controller:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            services = self._custom.list_namespaced_custom_object(
                *_GROUP, self._namespace, "inferenceservices"
            )
            for service in services["items"]:
                try:
                    self._reconcile(service)
                except client.ApiException as error:
                    if error.status not in (404, 409):
                        raise

    def _reconcile(self, service: dict[str, Any]) -> None:
        name = f"{service['metadata']['name']}-predictor"
        owner = {
            "apiVersion": service["apiVersion"],
            "kind": service["kind"],
            "name": service["metadata"]["name"],
            "uid": service["metadata"]["uid"],
            "controller": True,
        }
        metadata = {"name": name, "ownerReferences": [owner], "labels": {_LABEL: service["metadata"]["name"]}}
        apply = {
            "field_manager": "kserve-test",
            "force": True,
            "_content_type": "application/apply-patch+yaml",
            "_preload_content": False,
        }
        selector = {"app": name}
        port = {"name": "http1", "port": 80, "targetPort": 8080, "protocol": "TCP"}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
        self._core.patch_namespaced_service(
            name, self._namespace, {**body, "spec": {"selector": selector, "ports": [port]}}, **apply
        )
        template = {
            "metadata": {"labels": {**selector, **metadata["labels"], "component": "predictor"}},
            "spec": {
                key: value
                for key, value in service["spec"]["predictor"].items()
                if key in ("containers", "volumes", "terminationGracePeriodSeconds", "serviceAccountName")
            },
        }
        spec = {"replicas": service["spec"]["predictor"].get("minReplicas", 1), "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        self._apps.patch_namespaced_deployment(
            name, self._namespace, {**body, "spec": {**spec, "selector": {"matchLabels": selector}}}, **apply
        )
        self._tell(service, self._apps.read_namespaced_deployment(name, self._namespace))

    def _tell(self, service: dict[str, Any], deployment: Any) -> None:
        name = service["metadata"]["name"]
        good = bool(deployment.status.available_replicas)
        status = {
            "observedGeneration": service["metadata"]["generation"],
            "deploymentMode": "Standard",
            "url": f"http://{name}-{self._namespace}.example.com",
            "address": {"url": f"http://{name}-predictor.{self._namespace}.svc.cluster.local"},
            "conditions": [
                {"type": kind, "status": "True" if good else "False"} for kind in ("PredictorReady", "Ready")
            ],
        }
        if service.get("status") != status:
            self._custom.patch_namespaced_custom_object_status(
                *_GROUP,
                self._namespace,
                "inferenceservices",
                name,
                {"status": status},
                _content_type="application/merge-patch+json",
            )
