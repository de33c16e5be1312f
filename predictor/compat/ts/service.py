"""`Service`: a loaded handler with its context, for code that drives handlers by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ts.context import Context, RequestProcessor
from ts.utils.util import PredictionException, get_yaml_config
from ts.version import __version__

PREDICTION_METRIC = "PredictionTime"
logger = logging.getLogger(__name__)

# Some handlers import the exception from here.
__all__ = ["PREDICTION_METRIC", "PredictionException", "Service", "emit_metrics"]


class Service:
    """An entry point and the context it is called with.

    TorchServe's `predict` returned bytes of its worker protocol and is not offered; call
    `service.entry_point(data, service.context)` instead.
    """

    def __init__(
        self,
        model_name: str,
        model_dir: str,
        manifest: dict[str, Any] | None,
        entry_point: Callable[[Any, Context], Any],
        gpu: int | None,
        batch_size: int | None,
        limit_max_image_pixels: bool = True,
        metrics_cache: Any = None,
    ) -> None:
        """Make the context; the configuration file the manifest names is read from `model_dir`."""
        config_file = ((manifest or {}).get("model") or {}).get("configFile")
        config = get_yaml_config(str(Path(model_dir, config_file))) if config_file else {}
        self.entry_point = entry_point
        self._context = Context(
            model_name,
            model_dir,
            manifest,
            batch_size,
            gpu,
            __version__,
            limit_max_image_pixels,
            metrics_cache,
            config,
        )

    @property
    def context(self) -> Context:
        """The context of every call."""
        return self._context

    @staticmethod
    def retrieve_data_for_inference(
        batch: Iterable[Mapping[str, Any]] | None,
    ) -> tuple[list[RequestProcessor], list[dict[str, Any]], dict[int, str]]:
        """Turn TorchServe's request messages into `(processors, data, {index: request id})`.

        A message has `requestId` (bytes), `parameters` (`name`, `contentType`, `value`) and optionally
        `headers` (`name` and `value`, bytes). ValueError for None.
        """
        if batch is None:
            raise ValueError("there are no requests")
        processors, data, ids = [], [], {}
        for index, request in enumerate(batch):
            parameters = request["parameters"]
            headers: dict[str, Any] = {p["name"]: {"content-type": p["contentType"]} for p in parameters}
            for header in request.get("headers") or ():
                headers[header["name"].decode()] = header["value"].decode()
            processors.append(RequestProcessor(headers))
            data.append({p["name"]: p["value"] for p in parameters})
            ids[index] = request["requestId"].decode()
        return processors, data, ids


def emit_metrics(metrics: Iterable[Any] | None) -> None:
    """Log each metric as a `[METRICS]` line."""
    for metric in metrics or ():
        logger.info("[METRICS]%s", metric)
