"""Fixtures and switches for all tests."""

from __future__ import annotations

import sys

import pytest

collect_ignore = ["support"]


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


@pytest.fixture(scope="session")
def linux() -> None:
    """Skip where there is no /proc to look at processes with."""
    if sys.platform != "linux":
        pytest.skip("looks at processes through /proc")
