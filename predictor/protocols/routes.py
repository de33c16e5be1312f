"""Which protocol answers which path. Where KServe and TorchServe collide, KServe's meaning wins."""

from __future__ import annotations

from collections.abc import Set

from predictor.http.application import FindProtocol, HttpProtocol
from predictor.protocols.health import HealthProtocol
from predictor.protocols.named import NamedProtocol
from predictor.protocols.pages import PagesProtocol
from predictor.protocols.torchserve import TorchServeProtocol
from predictor.protocols.v1 import V1Protocol
from predictor.protocols.v2 import V2Protocol
from predictor.serving.registry import Registry


def find_protocol(
    registry: Registry,
    default_model: str = "",
    with_pages: bool = True,
    metrics: HttpProtocol | None = None,
) -> FindProtocol:
    """Return the function that picks the protocol of a request.

    Args:
        registry: the models.
        default_model: what `/predict` means.
        with_pages: whether there are `/ui` and `/docs`.
        metrics: what answers `/metrics`, None for nothing.
    """
    torchserve = TorchServeProtocol(registry)
    v1 = V1Protocol(registry)
    v2 = V2Protocol(registry)
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
        return torchserve

    return find


def find_by_role(registry: Registry, roles: Set[str], metrics: HttpProtocol | None = None) -> FindProtocol:
    """Return the function that picks the protocol on a port of its own.

    Args:
        registry: the models.
        roles: `management`, `metrics` or both.
        metrics: what answers `/metrics`, None for nothing.
    """
    rest = TorchServeProtocol(Registry())

    def find(method: str, path: str) -> HttpProtocol | None:
        path = path.rstrip("/")
        described = not path and method == "OPTIONS" and "management" not in roles
        if metrics is not None and "metrics" in roles and (path == "/metrics" or described):
            return metrics
        return rest

    return find
