"""What a clip's time went into beside its own work: waiting for others, and what it occupied meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Spent:
    """One clip's; for one thread.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._occupied: dict[str, float] = {}
        self.waited_s = 0.0
        """Seconds in which nothing was done for the clip, since other clips were before it."""

    @property
    def turn_s(self) -> float | None:
        """Seconds for which it had what only one clip can have at a time, of several such things the
        one it had longest; None: it had none.
        """
        return max(self._occupied.values(), default=None)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block the clip waits for others."""
        since = self._clock()
        try:
            yield
        finally:
            self.waited_s += self._clock() - since

    @contextmanager
    def occupying(self, what: str) -> Iterator[None]:
        """Within the block no other clip can have ``what``."""
        since = self._clock()
        try:
            yield
        finally:
            self._occupied[what] = self._occupied.get(what, 0.0) + self._clock() - since
