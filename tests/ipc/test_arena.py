"""The memory that carries large bodies: nothing overlaps, nothing is lost, nothing can be taken away."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import sys
from pathlib import Path
from random import Random
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import predictor.ipc.arena as arena_module
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


@pytest.mark.parametrize("seed", range(10))
def test_a_block_may_be_let_go_of_at_any_moment(seed: int) -> None:
    """The collector does that: between any two lines of the arena's own."""
    random = Random(seed)
    arena = Arena(64 * 4096)
    held: list[memoryview] = []

    def let_go(frame: FrameType, event: str, arg: object) -> object:
        if event == "line" and frame.f_code.co_filename == arena_module.__file__ and held:
            held.pop(random.randrange(len(held)))
        return let_go

    for _ in range(20):
        held.extend(filter(None, (arena.take(random.randint(1, 3) * 4096) for _ in range(40))))
        before = sys.gettrace()
        sys.settrace(let_go)
        try:
            taken = [block for block in map(arena.take, [4096, 8192] * 3) if block is not None]
        finally:
            sys.settrace(before)
        pages: list[int] = []
        for block in (*taken, *held):
            start = arena.offset_of(block) // 4096
            pages += range(start, start + len(block) // 4096)
        assert len(pages) == len(set(pages)), "two blocks share memory"
        block = None
        taken.clear()
    held.clear()
    assert arena.take(64 * 4096) is not None, "something is still taken, or has been lost"
    arena.close()


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
    gc.collect()  # which may close what other tests have left
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        arena = Arena(4096)
        other = reader(arena)
        arena.close()
        del other, arena
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
