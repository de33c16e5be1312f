"""Which role a route asks for. What is not listed as public asks for one: a new route is closed by itself.

Public is what probes and scrapers need, and what is the same on every server of this version: pages,
documents, the descriptions of gRPC services. Whatever runs a model, lists models or tells about one asks
for a token; a probe of one model by its name tells whether that is ready, and no more.
"""

from __future__ import annotations

import enum

from predictor.trust.role import Role


class Port(enum.Enum):
    """What a listener is for."""

    INFERENCE = "inference"
    MANAGEMENT = "management"
    METRICS = "metrics"


_READ = ("GET", "HEAD")
# Documents and files that hold nothing of the models.
_STATIC = frozenset({"/openapi.json", "/ui", "/docs"})
_STATIC_FOLDERS = ("/ui/", "/docs/")
_STATIC_ENDINGS = (".css", ".js", ".svg")
_UI_DATA = ("/ui/models", "/ui/examples")

_V2 = "inference.GRPCInferenceService"
_TORCHSERVE_V2 = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
_TORCHSERVE_INFERENCE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
_TORCHSERVE_MANAGEMENT = "org.pytorch.serve.grpc.management.ManagementAPIsService"
_PUBLIC_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
_PUBLIC_METHODS = frozenset(
    {(_TORCHSERVE_INFERENCE, "Ping")}
    | {
        (service, name)
        for service in (_V2, _TORCHSERVE_V2)
        for name in ("ServerLive", "ServerReady", "ModelReady")
    }
)
_MANAGEMENT_METHODS = frozenset({(_V2, "RepositoryModelLoad"), (_V2, "RepositoryModelUnload")})


def role_of_route(port: Port, method: str, path: str) -> Role | None:
    """Return the role that a request needs, None where it needs none.

    Args:
        port: the listener that it came to.
        method: upper case.
        path: percent-decoded, as routing sees it, without a slash at its end.
    """
    if port is Port.METRICS or _is_public(method, path):
        return None
    if port is Port.MANAGEMENT or _changes_models(path):
        return Role.MANAGEMENT
    return Role.INFERENCE


def role_of_rpc(method: str) -> Role | None:
    """Return the role that a gRPC method (`/package.Service/Method`) needs, None where it needs none."""
    service, _, name = method.removeprefix("/").partition("/")
    if service in _PUBLIC_SERVICES or (service, name) in _PUBLIC_METHODS:
        return None
    if service == _TORCHSERVE_MANAGEMENT or (service, name) in _MANAGEMENT_METHODS:
        return Role.MANAGEMENT
    return Role.INFERENCE


def _is_public(method: str, path: str) -> bool:
    if path in ("/ping", "/metrics") or path.startswith("/ping/"):
        return True
    # The API key that renews the others is checked by the route itself.
    if path == "/token":
        return True
    if path == "" and method == "OPTIONS":
        return True
    if method not in _READ:
        return False
    return path in ("", "/api-description") or _is_probe(path) or _is_static(path)


def _is_probe(path: str) -> bool:
    """Return whether a GET of `path` asks for readiness and nothing else."""
    segments = path.split("/")[1:]
    if segments[:1] == ["health"] or segments[:2] == ["v2", "health"]:
        return True
    if segments[:2] == ["v1", "models"]:
        return len(segments) == 3 and ":" not in segments[2]
    if segments[:2] == ["v2", "models"] and segments[-1] == "ready":
        return len(segments) == 4 or (len(segments) == 6 and segments[3] == "versions")
    return False


def _is_static(path: str) -> bool:
    if path in _STATIC:
        return True
    if path.startswith(_UI_DATA) or not path.startswith(_STATIC_FOLDERS):
        return False
    return path.endswith(_STATIC_ENDINGS) and path.count("/") == 2


def _changes_models(path: str) -> bool:
    """Return whether `path` belongs to the management API, which may share the port of inference."""
    segments = path.split("/")[1:]
    if segments[:1] == ["models"]:
        return not (len(segments) == 3 and segments[2] == "invoke")
    return segments[:1] == ["workflows"] or segments[:3] == ["v2", "repository", "models"]
