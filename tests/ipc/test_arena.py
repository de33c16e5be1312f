"""The memory that carries large bodies: nothing overlaps, nothing is lost, nothing can be taken away."""

from __future__ import annotations

import fcntl
import mmap
import os
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
            st.tuples(st.just("put"), st.integers(1, 3 * 4096)),
            st.tuples(st.just("take"), st.integers(1, 3 * 4096)),
            st.tuples(st.just("drop"), st.integers(0, 30)),
        ),
        max_size=60,
    )
)
def test_what_was_put_is_read_as_long_as_somebody_holds_it(steps: list[tuple[str, int]]) -> None:
    arena = Arena(16 * 4096)
    other = reader(arena)
    held: list[tuple[memoryview, bytes]] = []
    block = one = None
    for number, (step, amount) in enumerate(steps):
        if step == "drop":
            if held:
                held.pop(amount % len(held))
            continue
        body = bytes([number % 251 + 1]) * amount
        block = arena.put(body) if step == "put" else arena.take(amount)
        pages = -(-amount // 4096)
        if block is None:
            assert _longest_gap([arena.offset_of(one) for one, _ in held], held) < pages
            continue
        block[:] = body
        held.append((block, body))
        for one, expected in held:
            assert other.view(arena.offset_of(one), len(one)) == expected
    block = one = None
    held.clear()
    assert arena.take(16 * 4096) is not None, "something is still taken"
    arena.close()


def _longest_gap(offsets, held):
    """Return the pages in a row that no block covers."""
    used = set()
    for offset, (block, _) in zip(offsets, held, strict=True):
        used.update(range(offset // 4096, -(-(offset + len(block)) // 4096)))
    return max(len(run) for run in "".join("x" if page in used else " " for page in range(16)).split("x"))


def test_an_empty_arena_gives_all_that_it_has_and_no_more() -> None:
    arena = Arena(4096)
    assert arena.put(b"x" * 4097) is None
    whole = arena.put(b"x" * 4096)
    assert arena.put(b"y") is None
    del whole
    assert arena.put(b"y" * 4096) == b"y" * 4096
    arena.close()


def test_only_blocks_have_a_place() -> None:
    arena = Arena(4096)
    block = arena.take(100)
    assert arena.offset_of(block) == 0
    assert arena.offset_of(b"x" * 100) is None
    assert arena.offset_of(block[:50]) is None
    arena.close()


def test_a_worker_cannot_cut_the_memory_off() -> None:
    arena = Arena(4096)
    with pytest.raises(PermissionError):
        os.ftruncate(arena.descriptor, 0)
    assert arena.put(b"still there") == b"still there"
    arena.close()


def test_a_worker_can_only_read() -> None:
    arena = Arena(4096)
    other = reader(arena)
    with pytest.raises(TypeError):
        other.view(0, 10)[0] = 1
    arena.close()


def test_a_worker_that_maps_the_memory_itself_cannot_write_either() -> None:
    arena = Arena(4096)
    seals = fcntl.fcntl(arena.descriptor, fcntl.F_GET_SEALS)
    if not seals & 0x0010:
        pytest.skip("a kernel before 5.1")
    with pytest.raises(PermissionError):
        mmap.mmap(arena.descriptor, 4096)
    with pytest.raises(PermissionError):
        os.pwrite(arena.descriptor, b"x", 0)
    arena.close()


def test_descriptors_are_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        arena = Arena(4096)
        other = reader(arena)
        arena.close()
        del other, arena
    assert len(list(Path("/proc/self/fd").iterdir())) == before
