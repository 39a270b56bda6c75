"""Work that hands things out: what is switched on for it is off for its receiver."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from svd_local.engine.streams import drained, passed_on, whole, within
from svd_local.engine.values import Phases, Pixels


class Switch:
    """A context that tells whether it is entered."""

    on = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        assert not self.on
        self.on = True
        try:
            yield
        finally:
            self.on = False


def test_the_context_is_left_while_the_receiver_has_its_turn() -> None:
    switch, seen, given = Switch(), [], []

    def work() -> Generator[int, None, str]:
        for number in range(3):
            seen.append(switch.on)
            yield number
        seen.append(switch.on)
        return "value"

    value = passed_on(within(switch, work()), lambda number: given.append((number, switch.on)))
    assert value == "value"
    assert seen == [True] * 4
    assert given == [(0, False), (1, False), (2, False)]
    assert not switch.on


@pytest.mark.parametrize("how", ["closed", "raised"])
def test_it_clears_up_under_the_context_too(how: str) -> None:
    switch, cleared = Switch(), []

    def work() -> Generator[int, None, None]:
        try:
            yield 0
            raise LookupError("injected")
        finally:
            cleared.append(switch.on)

    running = within(switch, work())
    assert next(running) == 0
    if how == "closed":
        running.close()
    else:
        with pytest.raises(LookupError):
            next(running)
    assert cleared == [True]
    assert not switch.on


def test_a_receiver_that_fails_ends_the_work() -> None:
    ended = []

    def work() -> Generator[int, None, None]:
        try:
            yield 0
            yield 1
        finally:
            ended.append(True)

    def refuse(_number: int) -> None:
        raise LookupError("injected")

    with pytest.raises(LookupError):
        passed_on(work(), refuse)
    assert ended == [True]


@pytest.mark.parametrize("sizes", [(3,), (1, 1, 1), (2, 1)])
def test_a_clip_in_whatever_pieces_is_one_array(sizes: tuple[int, ...]) -> None:
    frames = np.arange(3 * 12, dtype=np.uint8).reshape(3, 2, 2, 3)

    def work() -> Generator[Pixels, None, Phases]:
        at = 0
        for size in sizes:
            yield frames[at : at + size]
            at += size
        return Phases(1.0, 2.0, 3.0)

    made = whole(work())
    assert np.array_equal(made.frames, frames)
    assert (made.encode_image_s, made.denoise_s, made.decode_s) == (1.0, 2.0, 3.0)
    assert drained(work())[1] == Phases(1.0, 2.0, 3.0)
