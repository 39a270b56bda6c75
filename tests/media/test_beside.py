"""A thread that encodes beside the one that makes frames: how far ahead, and how either ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from svd_local.media.beside import Beside

Chunk = np.ndarray[Any, np.dtype[np.uint8]]
Check = Callable[[], None]


def chunk(level: int) -> Chunk:
    """1000 bytes."""
    return np.full((1, 10, 100, 1), level, np.uint8)


def go_on() -> None:
    """A check that stops nobody."""


def levels(chunks: Iterator[Chunk], _check: Check) -> list[int]:
    return [int(one.max()) for one in chunks]


def test_every_chunk_comes_once_and_in_order() -> None:
    with Beside(levels, ahead_bytes=2500) as beside:
        for level in range(20):
            beside.put(chunk(level), go_on)
        assert beside.result(go_on) == list(range(20))
    assert beside.busy_s >= 0


def test_so_much_may_wait_and_no_more() -> None:
    looked_at, may_go_on = threading.Event(), threading.Event()

    def slow(chunks: Iterator[Chunk], _check: Check) -> int:
        count = 0
        for count, _ in enumerate(chunks, 1):  # noqa: B007
            looked_at.set()
            assert may_go_on.wait(30)
        return count

    tries = 0

    def let_it_go_on_later() -> None:
        nonlocal tries
        tries += 1
        if tries > 2:
            may_go_on.set()

    with Beside(slow, ahead_bytes=3000) as beside:
        for level in range(3):  # one of them is looked at, and counts
            beside.put(chunk(level), go_on)
        assert looked_at.wait(30)
        assert not may_go_on.is_set()
        beside.put(chunk(3), let_it_go_on_later)
        assert may_go_on.is_set()
        assert beside.result(go_on) == 4


def test_a_chunk_larger_than_all_that_may_wait_is_taken_alone() -> None:
    with Beside(levels, ahead_bytes=10) as beside:
        for level in range(3):
            beside.put(chunk(level), go_on)
        assert beside.result(go_on) == [0, 1, 2]


def test_waiting_for_frames_is_no_work() -> None:
    began = threading.Event()

    def consume(chunks: Iterator[Chunk], _check: Check) -> int:
        began.set()
        return sum(1 for _ in chunks)

    with Beside(consume) as beside:
        assert began.wait(30)
        threading.Event().wait(0.3)
        beside.put(chunk(1), go_on)
        beside.result(go_on)
    assert beside.busy_s < 0.2


@pytest.mark.parametrize("when", ["put", "result"])
def test_what_fails_in_the_thread_is_raised_in_the_callers(when: str) -> None:
    def fail(chunks: Iterator[Chunk], _check: Check) -> None:
        next(chunks)
        raise LookupError("injected")

    with Beside(fail, ahead_bytes=1000) as beside:
        beside.put(chunk(0), go_on)
        with pytest.raises(LookupError, match="injected"):
            _put_two(beside) if when == "put" else beside.result(go_on)


def _put_two(beside: Beside[None]) -> None:
    for level in range(2):  # the second has no room before the first is gone, and it never goes
        beside.put(chunk(level), go_on)


@pytest.mark.parametrize("when", ["waiting for frames", "busy", "putting", "ending"])
def test_whoever_gives_up_leaves_no_thread_behind(when: str) -> None:
    class Enough(Exception):
        pass

    busy, seen = threading.Event(), []

    def consume(chunks: Iterator[Chunk], check: Check) -> None:
        for one in chunks:
            seen.append(one)
            while when != "waiting for frames":
                busy.set()
                check()
                threading.Event().wait(0.01)

    def enough() -> None:
        raise Enough

    beside = Beside(consume, ahead_bytes=1000)

    def use() -> None:
        with beside:
            beside.put(chunk(0), go_on)
            if when == "busy":
                assert busy.wait(30)
            if when == "putting":
                beside.put(chunk(1), enough)
            if when == "ending":
                beside.result(enough)
            raise Enough

    with pytest.raises(Enough):
        use()
    assert not beside._thread.is_alive()
    assert len(seen) <= 1
