"""KServe's controller, as far as a test of `predictor deploy` needs it.

Where a cluster has KServe's kinds and no controller, this makes a Deployment and a Service of an
InferenceService, with a container of its own or a ClusterServingRuntime's, and tells in its status how the
Deployment does. The pods are real: scheduler, kubelet and container engine do what they do. Nothing is
fetched from a storageUri: the annotation `test/models` names a ConfigMap that is mounted instead.
"""

from __future__ import annotations

import copy
import json
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
            "spec": self._pod(service),
        }
        spec = {"replicas": service["spec"]["predictor"].get("minReplicas", 1), "template": template}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
        self._apps.patch_namespaced_deployment(
            name, self._namespace, {**body, "spec": {**spec, "selector": {"matchLabels": selector}}}, **apply
        )
        self._tell(service, self._apps.read_namespaced_deployment(name, self._namespace))

    def _pod(self, service: dict[str, Any]) -> dict[str, Any]:
        predictor = service["spec"]["predictor"]
        model = predictor.get("model") or predictor.get("pytorch")
        pod = predictor if model is None else self._of_runtime(service, model)
        kept = ("containers", "volumes", "terminationGracePeriodSeconds", "serviceAccountName")
        return {key: value for key, value in pod.items() if key in kept}

    def _of_runtime(self, service: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
        """Return a pod of the runtime that is named, or has the highest priority; arguments are joined."""
        answer = self._custom.list_cluster_custom_object(
            "serving.kserve.io", "v1alpha1", "clusterservingruntimes"
        )
        named = model.get("runtime")
        fitting = [
            (form.get("priority", 0), runtime)
            for runtime in answer["items"]
            for form in runtime["spec"]["supportedModelFormats"]
            if form["name"] == "pytorch"
            and (runtime["metadata"]["name"] == named if named else form.get("autoSelect"))
        ]
        runtime = max(fitting, key=lambda one: one[0])[1]
        text = json.dumps(runtime["spec"]).replace("{{.Name}}", service["metadata"]["name"])
        pod: dict[str, Any] = json.loads(text)
        (container,) = pod["containers"]
        container["args"] = [*container.get("args", []), *model.get("args", [])]
        container["resources"] = model.get("resources") or container["resources"]
        models = (service["metadata"].get("annotations") or {}).get("test/models")
        if models:
            files = self._core.read_namespaced_config_map(models, self._namespace).metadata.annotations
            items = [{"key": key, "path": path} for key, path in json.loads(files["paths"]).items()]
            pod["volumes"].append({"name": "models", "configMap": {"name": models, "items": items}})
            mount = {"name": "models", "mountPath": "/mnt/models", "readOnly": True}
            container["volumeMounts"].append(mount)
        return copy.deepcopy(pod)

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
