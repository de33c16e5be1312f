"""The time limit of a batch: reached once, moved away in time, and never late because it was moved."""

from __future__ import annotations

import asyncio

import pytest

from predictor.serving.deadline import Deadline

pytestmark = pytest.mark.usefixtures("instantly")


@pytest.fixture
async def reached():
    return []


@pytest.fixture
async def deadline(reached):
    made = Deadline(lambda: reached.append(asyncio.get_running_loop().time()))
    yield made
    made.close()


async def test_it_is_reached_once(deadline, reached):
    deadline.set(0.02)
    await asyncio.sleep(0.2)
    assert len(reached) == 1


async def test_it_is_not_reached_when_it_moves_away(deadline, reached):
    deadline.set(0.05)
    deadline.set(30)
    await asyncio.sleep(0.2)
    assert not reached


async def test_it_is_reached_where_it_has_moved_to(deadline, reached):
    start = asyncio.get_running_loop().time()
    deadline.set(0.02)
    deadline.set(0.2)
    await asyncio.sleep(0.5)
    assert len(reached) == 1
    assert reached[0] - start == pytest.approx(0.2)


async def test_a_shorter_limit_is_not_kept_waiting_by_a_longer_one(deadline, reached):
    deadline.set(30)
    deadline.set(0.02)
    await asyncio.sleep(0.2)
    assert len(reached) == 1


@pytest.mark.parametrize("end", ["clear", "close"])
async def test_without_a_limit_nothing_is_reached(deadline, reached, end):
    deadline.set(0.02)
    getattr(deadline, end)()
    await asyncio.sleep(0.1)
    assert not reached


async def test_it_can_be_set_again(deadline, reached):
    deadline.set(0.02)
    await asyncio.sleep(0.1)
    deadline.clear()
    deadline.set(0.02)
    await asyncio.sleep(0.1)
    assert len(reached) == 2
