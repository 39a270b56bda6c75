"""Who may use the machine, and when: callers take turns in the order they came.

A clip needs the GPU for a part of its life only. Its caller joins the line on arrival, prepares its
keyframe while others have the turn, waits for its own, and gives it up with the last frame made; what
is left then, encoding and publishing, runs beside the next clip's turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_UP_S = 0.1

Check = Callable[[], None]
"""Called while somebody waits; may raise."""


def _silent() -> None:
    """For whoever has nothing to do before it waits."""


class Turns:
    """A first-come, first-served lock whose waiting can be cancelled.

    ``threading.Lock`` wakes waiters in no promised order, and cannot ask a caller while it waits
    whether the clip is still wanted.
    """

    def __init__(self) -> None:
        self._line: deque[Place] = deque()
        self._moved = threading.Condition()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Join the line now, for a turn that is wanted later or never; leave it at the block's end."""
        place = Place(self)
        place.join()
        try:
            yield place
        finally:
            place.leave()

    @contextmanager
    def take(self, check: Check, before_waiting: Check = _silent) -> Iterator[None]:
        """Join the line, wait for the turn and hold it, as ``Place.turn`` does."""
        with self.place() as place, place.turn(check, before_waiting):
            yield


class Place:
    """One caller's place in the line; for one thread. While it is the first, nobody else has a turn."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def join(self) -> None:
        """To the end of the line. Without effect on who stands in it."""
        with self._turns._moved:
            if self not in self._turns._line:
                self._turns._line.append(self)

    def leave(self) -> None:
        """Out of the line, for who needs no turn after all."""
        with self._turns._moved:
            if self in self._turns._line:
                self._turns._line.remove(self)
                self._turns._moved.notify_all()

    @contextmanager
    def turn(self, check: Check, before_waiting: Check = _silent) -> Iterator[None]:
        """Wait for the turn and hold it; whoever has left the line joins it anew.

        ``check`` is called while waiting, and ``before_waiting`` once, where the turn is not there at once.
        Used in peace, the turn is over with the block, and so is the place. After an exception the
        place is kept, for another try that follows at once.
        """
        self.join()
        waits = False
        while True:
            check()
            with self._turns._moved:
                if self._turns._line[0] is self:
                    break
                if waits:
                    self._turns._moved.wait(_LOOK_UP_S)
            if not waits:
                waits = True
                before_waiting()
        yield
        self.leave()


class Room:
    """Room for so many at once; whoever waits may be cancelled."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def taken(self, check: Check, before_waiting: Check = _silent) -> Iterator[None]:
        """Wait for room and hold it; ``before_waiting`` and ``check`` are called as by ``Place.turn``."""
        if not self._free.acquire(blocking=False):
            before_waiting()
            while not self._free.acquire(timeout=_LOOK_UP_S):
                check()
        try:
            yield
        finally:
            self._free.release()


class Underway:
    """What is being made now, so that nobody makes the same beside it."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._moved = threading.Condition()

    @contextmanager
    def alone(self, name: str, check: Check, before_waiting: Check) -> Iterator[None]:
        """Within the block nobody else is in a block of this ``name``.

        ``before_waiting`` is called where somebody is: whoever waits must hold nothing that the other
        may wait for. ``check`` is called while waiting.
        """
        with self._moved:
            must_wait = name in self._names
            if not must_wait:
                self._names.add(name)
        if must_wait:
            before_waiting()
            self._wait(name, check)
        try:
            yield
        finally:
            with self._moved:
                self._names.remove(name)
                self._moved.notify_all()

    def _wait(self, name: str, check: Check) -> None:
        while True:
            check()
            with self._moved:
                if name not in self._names:
                    self._names.add(name)
                    return
                self._moved.wait(_LOOK_UP_S)
