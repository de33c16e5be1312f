"""`@timeit`: print how long a function took."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any


def timeit(func: Callable[..., Any]) -> Callable[..., Any]:
    """Print wall-clock and CPU seconds of every call of `func`."""

    @functools.wraps(func)
    def timed_call(*args: Any, **kwargs: Any) -> Any:
        start, start_cpu = time.perf_counter(), time.process_time()
        result = func(*args, **kwargs)
        wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
        print(f"func: {func.__name__!r} took {wall:.4f} s, {cpu:.4f} s of CPU time")  # noqa: T201 - what it is for
        return result

    return timed_call
