"""Which protocol answers which path. Where KServe and TorchServe collide, KServe's meaning wins."""

from __future__ import annotations

from collections.abc import Set

from predictor.errors import ResourceNotFound
from predictor.http.application import FindProtocol, HttpProtocol
from predictor.http.messages import HttpResponse
from predictor.protocols.health import HealthProtocol
from predictor.protocols.management import ManagementProtocol
from predictor.protocols.named import NamedProtocol
from predictor.protocols.pages import PagesProtocol
from predictor.protocols.token import TokenProtocol
from predictor.protocols.torchserve import TorchServeProtocol
from predictor.protocols.v1 import V1Protocol
from predictor.protocols.v2 import V2Protocol
from predictor.serving.manager import ModelManager
from predictor.serving.registry import Registry
from predictor.trust.key_file import KeyFile


class _NothingElse(TorchServeProtocol):
    """Answers what a port does not serve: no model is behind it, whose health it could tell."""

    def _ping(self) -> HttpResponse:
        raise ResourceNotFound


def find_protocol(
    registry: Registry,
    default_model: str = "",
    with_pages: bool = True,
    metrics: HttpProtocol | None = None,
    management: ManagementProtocol | None = None,
    manager: ModelManager | None = None,
) -> FindProtocol:
    """Return the function that picks the protocol of a request.

    Args:
        registry: the models.
        default_model: what `/predict` means.
        with_pages: whether there are `/ui` and `/docs`.
        metrics: what answers `/metrics`, None for nothing.
        management: answers `/models...`; None leaves it to a port of its own, or to nobody.
        manager: loads and unloads models for V2's clients; None where they may not ask for that.
    """
    torchserve = TorchServeProtocol(registry)
    v1 = V1Protocol(registry)
    v2 = V2Protocol(registry, manager)
    named = NamedProtocol(registry, default_model)
    health = HealthProtocol(registry)
    pages = PagesProtocol(registry)

    def find(method: str, path: str) -> HttpProtocol | None:
        path = path.rstrip("/")
        if path.startswith("/predictions/"):
            return torchserve
        if path == "/v1/models" or path.startswith("/v1/models/"):
            return v1
        if path.startswith(("/v2/health/", "/v2/health")) or (not path and method in ("GET", "HEAD")):
            return health
        if path == "/v2" or path.startswith("/v2/"):
            return v2
        if path in ("/predict", "/health", "/info") or path.startswith(("/predict/", "/info/", "/health/")):
            return named
        if with_pages and pages.claims(path):
            return pages
        if metrics is not None and path == "/metrics":
            return metrics
        is_managed = path == "/models" or (path.startswith("/models/") and not path.endswith("/invoke"))
        return management if management is not None and is_managed else torchserve

    return find


def with_token(find: FindProtocol, keys: KeyFile) -> FindProtocol:
    """Let `/token` renew the keys of the key file, on a listener of the management API."""
    token = TokenProtocol(keys)
    return lambda method, path: token if path.rstrip("/") == "/token" else find(method, path)


def find_by_role(
    registry: Registry,
    roles: Set[str],
    metrics: HttpProtocol | None = None,
    management: ManagementProtocol | None = None,
) -> FindProtocol:
    """Return the function that picks the protocol on a port of its own.

    Args:
        registry: the models.
        roles: `management`, `metrics` or both.
        metrics: what answers `/metrics`, None for nothing.
        management: answers TorchServe's management port; needed where that is one of the roles.
    """
    v1 = V1Protocol(registry)
    rest = _NothingElse(Registry())

    def find(method: str, path: str) -> HttpProtocol | None:
        path = path.rstrip("/")
        described = not path and method == "OPTIONS" and "management" not in roles
        if metrics is not None and "metrics" in roles and (path == "/metrics" or described):
            return metrics
        if management is None or "management" not in roles:
            return rest
        is_status = method == "GET" and path.startswith("/v1/models/") and ":" not in path
        return v1 if is_status else management

    return find
