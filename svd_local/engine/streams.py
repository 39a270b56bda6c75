"""Work that hands out frames while it goes on: generators of pixels whose value is how it went.

Every chunk is uint8 of shape (n, height, width, 3), RGB, in order, and the receiver's own to keep.
Closing such a generator ends its work; one that is dropped unread is closed with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeVar

from svd_local.engine.values import Phases, Rendered

if TYPE_CHECKING:
    from svd_local.engine.values import Pixels

T = TypeVar("T")
R = TypeVar("R")


def within(
    context: Callable[[], AbstractContextManager[object]], work: Generator[T, None, R]
) -> Generator[T, None, R]:
    """``work`` under a context that is left whenever the receiver has its turn.

    What torch and the warnings module switch is the thread's or the process's: it must not be
    left switched in a caller that does something else between two frames.

    Args:
        context: makes the context anew, each time ``work`` goes on.
        work: what to run; closed with this generator, under the context too.
    """
    try:
        while True:
            with context():
                try:
                    item = next(work)
                except StopIteration as end:
                    value: R = end.value
                    return value
            yield item
    finally:
        with context():
            work.close()


def passed_on(work: Generator[T, None, R], receive: Callable[[T], object]) -> R:
    """Give everything that ``work`` hands out to ``receive``, and return its value."""
    with contextlib.closing(work):
        while True:
            try:
                item = next(work)
            except StopIteration as end:
                value: R = end.value
                return value
            receive(item)


def drained(work: Generator[T, None, R]) -> tuple[list[T], R]:
    """Everything that ``work`` hands out, and its value."""
    items: list[T] = []
    value = passed_on(work, items.append)
    return items, value


def whole(work: Generator[Pixels, None, Phases]) -> Rendered:
    """A clip's frames in one array, for those who have no use for them one by one."""
    chunks, phases = drained(work)
    return Rendered(
        encode_image_s=phases.encode_image_s,
        denoise_s=phases.denoise_s,
        decode_s=phases.decode_s,
        frames=joined(chunks),
    )


def joined(chunks: Sequence[Pixels]) -> Pixels:
    """Chunks of a clip as one; a single one as it is."""
    import numpy as np

    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
