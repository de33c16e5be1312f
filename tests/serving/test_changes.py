from __future__ import annotations

import asyncio

import pytest

from predictor.errors import ModelNotFound, ShuttingDown
from predictor.serving.changes import Changes


class _Change:
    """A change to one model that notes when it begins and ends, and lasts until `release` is set."""

    def __init__(self, changes, name, seen):
        self.release = asyncio.Event()
        self._changes = changes
        self._name = name
        self._seen = seen

    async def __call__(self, label):
        async with self._changes.alone(self._name):
            self._seen.append(f"{label} begins")
            await self.release.wait()
            self._seen.append(f"{label} ends")
        return label


async def _settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_changes_to_one_model_keep_their_order_and_others_do_not_wait():
    changes, seen = Changes(), []
    first, other = _Change(changes, "m", seen), _Change(changes, "n", seen)
    tasks = [changes.begin(first(label)) for label in ("a", "b")] + [changes.begin(other("c"))]
    await _settle()
    assert seen == ["a begins", "c begins"]
    first.release.set()
    await asyncio.gather(*tasks[:2])
    assert seen[2:] == ["a ends", "b begins", "b ends"]
    other.release.set()
    assert await tasks[2] == "c"
    # A name that a client makes up must not be remembered for ever.
    assert changes._locks == {}
    assert changes._tasks == set()


async def test_a_change_goes_on_without_who_asked_for_it():
    changes, seen = Changes(), []
    change = _Change(changes, "m", seen)
    client = asyncio.ensure_future(changes.run(change("a")))
    await _settle()
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    change.release.set()
    await _settle()
    assert seen == ["a begins", "a ends"]


async def test_closing_gives_up_what_is_under_way_and_tells_who_waits():
    changes, seen = Changes(), []
    change = _Change(changes, "m", seen)
    client = asyncio.ensure_future(changes.run(change("a")))
    await _settle()
    await changes.close()
    with pytest.raises(ShuttingDown):
        await client
    # Nor is another one begun, not even to be thrown away later: Python would complain of it.
    with pytest.raises(ShuttingDown):
        await changes.run(change("b"))
    assert seen == ["a begins"]


@pytest.mark.parametrize(
    ("error", "level", "text"),
    [
        (ModelNotFound("m"), "WARNING", "Model not found: m"),
        (ShuttingDown("no", "m"), "ERROR", "no"),
        (ZeroDivisionError("bug"), "ERROR", "a change to the models failed"),
    ],
)
async def test_what_goes_wrong_is_logged_though_nobody_waits(caplog, error, level, text):
    async def fail():
        raise error

    changes = Changes()
    task = changes.begin(fail())
    await _settle()
    assert [(record.levelname, record.message) for record in caplog.records] == [(level, text)]
    assert task.exception() is error
