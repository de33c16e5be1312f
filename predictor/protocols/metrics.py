"""`/metrics`, for Prometheus; `?name[]=a&name[]=b` asks for some families only, as in TorchServe."""

from __future__ import annotations

from collections.abc import Callable, Collection

import orjson

from predictor.errors import PredictorError
from predictor.http.messages import HttpRequest, HttpResponse, json_response
from predictor.protocols import kserve, openapi
from predictor.telemetry.exposition import CONTENT_TYPE

# Writes all families, or those of the given names.
Scrape = Callable[[Collection[str]], bytes]


class MetricsProtocol:
    """Answers `/metrics`."""

    label = "metrics"

    def __init__(self, scrape: Scrape) -> None:
        """Answer with what `scrape` writes."""
        self._scrape = scrape

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request; `OPTIONS` tells the document, as on TorchServe's metrics port."""
        if request.method == "OPTIONS":
            return json_response(orjson.dumps(openapi.metrics_api()))
        kserve.require_method(request, "GET", "HEAD", "POST")
        names = [value for name, value in request.query() if name == "name[]"]
        return HttpResponse(200, self._scrape(names), [("content-type", CONTENT_TYPE)])

    def render_error(self, error: PredictorError) -> HttpResponse:
        """Return KServe's error body."""
        return kserve.render_error(error)
