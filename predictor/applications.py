"""What answers on each listener: its protocols by its roles, behind its gate."""

from __future__ import annotations

from collections.abc import Sequence

from predictor.http.application import Application, AsgiApp, FindProtocol
from predictor.http.body import take_anonymous
from predictor.ipc.arena import Arena
from predictor.listeners import Listener, Role
from predictor.metrics import Metrics
from predictor.protection import Protection
from predictor.protocols.management import ManagementProtocol
from predictor.protocols.managing import ModelManagement
from predictor.protocols.metrics import MetricsProtocol
from predictor.protocols.routes import find_by_role, find_protocol, with_token
from predictor.serving.manager import ModelManager
from predictor.settings import Settings
from predictor.telemetry.logging import AccessLog
from predictor.trust.access import Port


def make_applications(
    listeners: Sequence[Listener],
    settings: Settings,
    manager: ModelManager,
    protection: Protection,
    metrics: Metrics,
    access_log: AccessLog | None,
    fallback: AsgiApp,
    arena: Arena | None,
) -> list[Application]:
    """Return the application of each listener, in order.

    Args:
        fallback: answers what none of ours claims.
        arena: where large bodies are received.
    """
    applications = []
    for listener in listeners:
        find = _find(listener, settings, manager, metrics)
        if protection.keys is not None and _manages(listener, listeners):
            find = with_token(find, protection.keys)
        gate = protection.gate(_port(listener))
        limit = settings.max_request_size
        application = Application(
            find,
            fallback,
            limit,
            access_log,
            metrics.requests,
            gate,
            settings.compress_from,
            take=arena.take if arena is not None else take_anonymous,
        )
        applications.append(application)
    return applications


def _find(listener: Listener, settings: Settings, manager: ModelManager, metrics: Metrics) -> FindProtocol:
    """Return the function that picks the protocol of a request to a listener."""
    metrics_api = MetricsProtocol(metrics.text) if settings.enable_metrics_api else None
    is_main = Role.MAIN in listener.roles
    management: ManagementProtocol | None = None
    if Role.MANAGEMENT in listener.roles or (is_main and settings.enable_model_api):
        operations = ModelManagement(manager, settings.enable_model_api)
        # On a port of its own TorchServe's clients scale models even where they may not add any.
        management = ManagementProtocol(operations, may_scale=not is_main)
    if not is_main:
        roles = {role.value for role in listener.roles}
        return find_by_role(manager.registry, roles, metrics_api, management)
    repository = manager if settings.enable_model_api else None
    return find_protocol(
        manager.registry, settings.default_model, settings.pages, metrics_api, management, repository
    )


def _port(listener: Listener) -> Port:
    """Return what a listener is for; on a shared one the strictest rules count."""
    if Role.MAIN in listener.roles:
        return Port.INFERENCE
    return Port.MANAGEMENT if Role.MANAGEMENT in listener.roles else Port.METRICS


def _manages(listener: Listener, listeners: Sequence[Listener]) -> bool:
    """Return whether the management API is on a listener: its own if there is one, else the main one."""
    if Role.MANAGEMENT in listener.roles:
        return True
    return Role.MAIN in listener.roles and not any(Role.MANAGEMENT in other.roles for other in listeners)
