"""The memory that carries large bodies: nothing overlaps, nothing is lost, nothing can be taken away."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.ipc.arena import Arena, ArenaReader

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux's memfd")


def reader(arena: Arena) -> ArenaReader:
    return ArenaReader(os.dup(arena.descriptor))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 700)),
            st.tuples(st.just("free"), st.integers(1, 3)),
            st.tuples(st.just("take back"), st.integers(1, 2)),
        ),
        max_size=60,
    )
)
def test_what_was_put_is_read_until_it_is_freed(steps: list[tuple[str, int]]) -> None:
    arena = Arena(4096)
    other = reader(arena)
    held: deque[tuple[int, bytes]] = deque()
    try:
        for number, (step, amount) in enumerate(steps):
            if step == "put":
                body = bytes([number % 251 + 1]) * amount
                offset = arena.put(body)
                if offset is not None:
                    held.append((offset, body))
                else:
                    # Free bytes lie in two stretches at most, and a wrap leaves less than one body unused.
                    free = 4096 - sum(len(body) for _, body in held)
                    assert free < 2 * amount + 700
            elif step == "free":
                count = min(amount, len(held))
                arena.free(count)
                for _ in range(count):
                    held.popleft()
            else:
                count = min(amount, len(held))
                arena.take_back(count)
                for _ in range(count):
                    held.pop()
            for offset, body in held:
                assert other.get(offset, len(body)) == body
    finally:
        arena.close()


def test_an_empty_arena_takes_all_that_it_has_and_no_more() -> None:
    arena = Arena(4096)
    assert arena.put(b"x" * 4097) is None
    assert arena.put(b"x" * 4096) == 0
    assert arena.put(b"y") is None
    arena.free(1)
    assert arena.put(b"y" * 4096) == 0
    arena.close()


def test_a_worker_cannot_cut_the_memory_off() -> None:
    arena = Arena(4096)
    with pytest.raises(PermissionError):
        os.ftruncate(arena.descriptor, 0)
    arena.put(b"still there")
    arena.close()


def test_a_worker_can_only_read() -> None:
    arena = Arena(4096)
    other = reader(arena)
    with pytest.raises(TypeError):
        other._memory[0] = 1
    arena.close()


def test_descriptors_are_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        arena = Arena(4096)
        other = reader(arena)
        arena.close()
        del other
    assert len(list(Path("/proc/self/fd").iterdir())) == before
