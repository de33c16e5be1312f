"""Fixtures and switches for all tests."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, settings
from support.clock import skip_waits

collect_ignore = ["support"]

# A busy machine is no failure: no example has a time limit. Every run tries the same examples, so that it
# fails for its change alone; `make test ARGS="--hypothesis-profile=default"` tries new ones.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stress: minutes of heavy load; runs only with -m stress")
    config.addinivalue_line("markers", "cluster: needs Docker or Kubernetes; runs only with -m cluster")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the heavy tests to those who ask for them."""
    unasked = {"stress", "cluster"} - set(config.getoption("markexpr").split())
    kept: list[pytest.Item] = []
    heavy: list[pytest.Item] = []
    for item in items:
        (heavy if any(map(item.get_closest_marker, unasked)) else kept).append(item)
    if heavy:
        config.hook.pytest_deselected(items=heavy)
        items[:] = kept


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run `async def` tests on asyncio only, which is what the server runs on."""
    return "asyncio"


@pytest.fixture
async def instantly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let time pass at once: the loop goes from timer to timer."""
    skip_waits(monkeypatch)


@pytest.fixture(scope="session")
def linux() -> None:
    """Skip where there is no /proc to look at processes with."""
    if sys.platform != "linux":
        pytest.skip("looks at processes through /proc")
