"""A small API server on a real socket, for the real Kubernetes client.

It keeps InferenceServices, and plays KServe's controller as far as a test asks it to: every look at a
service takes the next step of a script.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

_SERVICES = "/apis/serving.kserve.io/v1beta1/namespaces/"
_NOW = "2026-11-21T09:00:00Z"

Object = dict[str, Any]


class KubeApi:
    """A context manager.

    Attributes:
        services: InferenceServices by namespace and name, as they are.
        steps: what happens at each look at a service after it was applied: functions of this server and
            the service. The last one stays.
        pods, deployments, events: what lists of them hold.
        logs: by pod, container and whether it is the log before the last restart.
        refusals: by method and the end of the path, the status and the message to refuse with.
        requests: what came: method, path, query, headers, body.
    """

    def __init__(self) -> None:
        self.services: dict[tuple[str, str], Object] = {}
        self.steps: list[Callable[[KubeApi, Object], None]] = []
        self.pods: list[Object] = []
        self.deployments: list[Object] = []
        self.events: list[Object] = []
        self.logs: dict[tuple[str, str, bool], str] = {}
        self.refusals: dict[tuple[str, str], tuple[int, Object | str]] = {}
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str], Any]] = []
        self.looks = 0
        self.looked = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    def __enter__(self) -> KubeApi:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def kubeconfig(self, folder: Path, **context: str) -> Path:
        """Write a kubeconfig with the context `test`, and a second, `other`, in the namespace `others`."""
        file = folder / "kubeconfig"
        clusters = [{"name": "here", "cluster": {"server": self.address}}]
        users = [{"name": "me", "user": {"token": "secret"}}]
        first = {"cluster": "here", "user": "me", **context}
        second = {"cluster": "here", "user": "me", "namespace": "others"}
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": clusters,
                    "users": users,
                    "contexts": [{"name": "test", "context": first}, {"name": "other", "context": second}],
                    "current-context": "test",
                }
            )
        )
        return file

    def sent(self, method: str) -> list[tuple[str, str, dict[str, str], dict[str, str], Any]]:
        """Return the requests of one method."""
        return [one for one in self.requests if one[0] == method]

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        for (refused, end), (status, reason) in self.refusals.items():
            if method == refused and path.endswith(end):
                return status, reason if isinstance(reason, dict) else status_object(status, reason)
        if path.startswith(_SERVICES):
            return self._service(method, path, query, body)
        if path.endswith("/pods"):
            return 200, {"items": self.pods}
        if path.endswith("/deployments"):
            return 200, {"items": self.deployments}
        if path.endswith("/events"):
            return 200, {"items": self.events}
        if path.endswith("/log"):
            key = (path.split("/")[-2], query["container"], query.get("previous", "").lower() == "true")
            return (200, self.logs[key]) if key in self.logs else (400, status_object(400, "no such log"))
        return 404, "404 page not found\n"

    def _service(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        namespace, _, rest = path.removeprefix(_SERVICES).partition("/inferenceservices")
        name = rest.removeprefix("/")
        if not name:
            return 200, {"items": [one for (where, _), one in self.services.items() if where == namespace]}
        if method == "PATCH":
            return self._apply(namespace, name, query, body)
        found = self.services.get((namespace, name))
        if found is None:
            details = {"name": name, "group": "serving.kserve.io", "kind": "inferenceservices"}
            message = f'inferenceservices.serving.kserve.io "{name}" not found'
            return 404, status_object(404, message, details)
        if method == "DELETE":
            del self.services[namespace, name]
            return 200, {"kind": "Status", "status": "Success"}
        if self.steps and found["metadata"].get("applied"):
            self.steps[min(self.looks, len(self.steps) - 1)](self, found)
            self.looks += 1
            self.looked.set()
        return 200, found

    def _apply(self, namespace: str, name: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        before = self.services.get((namespace, name))
        metadata = {**body["metadata"], "creationTimestamp": _NOW, "applied": True, "generation": 1}
        after = {**body, "metadata": metadata}
        if before is not None:
            same = before["spec"] == body["spec"]
            metadata["generation"] = before["metadata"]["generation"] + (0 if same else 1)
            after["status"] = before.get("status", {})
        if query.get("dryRun") != "All":
            self.services[namespace, name] = after
        else:
            metadata["managedFields"] = [{"manager": "predictor"}]
        return 200 if before else 201, after


def status_object(status: int, message: str, details: Object | None = None) -> Object:
    """Return an error as an API server words it."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "details": details or {},
        "code": status,
    }


def ready(api: KubeApi, service: Object) -> None:
    """Let the service be ready, at an address that this machine could reach."""
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    service["status"] = {
        "observedGeneration": service["metadata"]["generation"],
        "url": f"http://{name}-{namespace}.models.test",
        "address": {"url": f"http://{name}-predictor.{namespace}.svc.cluster.local"},
        "conditions": [
            {"type": "PredictorReady", "status": "True"},
            {"type": "Ready", "status": "True"},
        ],
    }


def waiting(api: KubeApi, service: Object) -> None:
    """Let the controller have seen it, and nothing more."""
    service["status"] = {
        "observedGeneration": service["metadata"]["generation"],
        "conditions": [{"type": "Ready", "status": "Unknown"}],
    }


def pod(name: str, *containers: Object, phase: str = "Pending", **more: Any) -> Object:
    """Return a pod with the statuses of its containers."""
    return {
        "metadata": {"name": name, "creationTimestamp": _NOW, "labels": {"pod-template-hash": name}, **more},
        "status": {"phase": phase, "containerStatuses": list(containers), "conditions": []},
    }


def container(state: Object, *, restarts: int = 0, last: Object | None = None, ok: bool = False) -> Object:
    """Return the status of `kserve-container`."""
    return {
        "name": "kserve-container",
        "image": "predictor:test",
        "ready": ok,
        "restartCount": restarts,
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }


def _handler(api: KubeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            split = urlsplit(self.path)
            query = {key: values[-1] for key, values in parse_qs(split.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            body = json.loads(text) if text else None
            headers = {key.lower(): value for key, value in self.headers.items()}
            api.requests.append((self.command, split.path, query, headers, body))
            status, answer = api.answer(self.command, split.path, query, body)
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = do_DELETE = do_POST = _handle  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler
