from __future__ import annotations

import asyncio

import pytest


@pytest.fixture
def loop():
    """A loop that never runs, for what only keeps futures."""
    made = asyncio.new_event_loop()
    yield made
    made.close()
