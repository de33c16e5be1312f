"""JSON for metrics."""

from __future__ import annotations

import json
from typing import Any

from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric


class MetricEncoder(json.JSONEncoder):
    """`json.dumps(metrics, cls=MetricEncoder)`."""

    def default(self, obj: Any) -> Any:
        """Turn metrics and dimensions into dicts; TypeError for what JSON does not know either."""
        if isinstance(obj, (Metric, Dimension)):
            return obj.to_dict()
        return super().default(obj)
