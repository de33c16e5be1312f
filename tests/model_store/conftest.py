"""Make `model_store` importable from the repository's root, and keep full trainings to ``-m slow``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip this folder's full trainings, saying so, unless an -m expression decides about them."""
    if not config.getoption("markexpr"):
        for item in items:
            if Path(__file__).parent in item.path.parents and item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="trains for minutes; run with -m slow"))


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """Take back what training sets for the whole process; other tests may run in it afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
