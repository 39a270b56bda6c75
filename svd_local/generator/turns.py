"""One GPU, one clip at a time: callers take turns in the order they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_UP_S = 0.1


class Turns:
    """A first-come, first-served lock whose waiting can be cancelled.

    ``threading.Lock`` wakes waiters in no promised order, and cannot ask a caller while it waits
    whether the clip is still wanted.
    """

    def __init__(self) -> None:
        self._queue: deque[object] = deque()
        self._moved = threading.Condition()

    @contextmanager
    def take(self, check: Callable[[], None]) -> Iterator[None]:
        """Wait for the turn and hold it; ``check`` is called while waiting and may raise."""
        ticket = object()
        with self._moved:
            self._queue.append(ticket)
        try:
            with self._moved:
                while self._queue[0] is not ticket:
                    check()
                    self._moved.wait(_LOOK_UP_S)
            yield
        finally:
            with self._moved:
                self._queue.remove(ticket)
                self._moved.notify_all()
