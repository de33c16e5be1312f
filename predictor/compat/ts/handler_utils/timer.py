"""`@timed`: the duration of a handler step as a metric, when the model's configuration asks for it.

model-config.yaml::

    handler:
      profile: true
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def timed(func: F) -> F:
    """Record each call of a handler method as the metric `ts_handler_<name>` in milliseconds.

    On CUDA the time is the device's, between events around the call; this waits for the device.
    """

    @functools.wraps(func)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _profiling(self):
            return func(self, *args, **kwargs)
        stop = _start_clock()
        result = func(self, *args, **kwargs)
        self.context.metrics.add_time(f"ts_handler_{func.__name__}", stop())
        return result

    return call  # type: ignore[return-value]


def _profiling(handler: Any) -> bool:
    config = getattr(getattr(handler, "context", None), "model_yaml_config", None)
    section = config.get("handler") if isinstance(config, dict) else None
    return bool(isinstance(section, dict) and section.get("profile"))


def _start_clock() -> Callable[[], float]:
    """Start measuring and return a function that answers the milliseconds since."""
    if not torch.cuda.is_available():
        begin = time.perf_counter()
        return lambda: (time.perf_counter() - begin) * 1000
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()

    def stop() -> float:
        last.record()
        torch.cuda.synchronize()
        return float(first.elapsed_time(last))

    return stop
