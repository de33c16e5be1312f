"""KServe's health routes, which mean what they say.

Live: no model has been given up; a pod that is not live gains by a restart. Ready: every model
answers, and the server is not shutting down.
"""

from __future__ import annotations

import orjson

from predictor.errors import PredictorError, ResourceNotFound
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.protocols import kserve
from predictor.serving.registry import Registry


class HealthProtocol:
    """Answers `GET /`, `/v2/health/live` and `/v2/health/ready`."""

    label = "health"

    def __init__(self, registry: Registry) -> None:
        """Report on the models of `registry`."""
        self._registry = registry

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        kserve.require_method(request, "GET", "HEAD")
        if not request.path:
            return json_response(b'{"status":"alive"}')
        kind = request.segments[-1]
        if kind == "live":
            return _status("live", self._registry.healthy)
        if kind == "ready":
            return _status("ready", self._registry.ready)
        raise ResourceNotFound

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return KServe's error body."""
        return kserve.render_error(error)


def _status(name: str, good: bool) -> HttpResponse:
    return json_response(orjson.dumps({name: good}), 200 if good else 503)
