"""A tier that serves one clip at a time, each until its last frame was read."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

_LOOK_UP_S = 0.1


class OneAtATime:
    """A lock that a clip holds from its first step to its last frame, so across its frames' reading.

    A thread that waited for itself would wait forever: a clip that it began and did not read to the
    end is over when it begins another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None
        self._open: weakref.ref[Generator[Any, None, Any]] | None = None

    @contextmanager
    def alone(self, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Within the block there is nobody else; whoever waits may be cancelled by ``check``."""
        while not self._lock.acquire(timeout=_LOOK_UP_S):
            check()
        self._owner = threading.get_ident()
        try:
            yield
        finally:
            self._owner = None
            self._lock.release()

    def mine_is(self, stream: Generator[Any, None, Any]) -> None:
        """What this thread's clip is read from; closing it ends the clip's block."""
        self._open = weakref.ref(stream)

    def end_mine(self) -> None:
        """End this thread's clip, where one is still to be read."""
        stream = None if self._open is None else self._open()
        if stream is not None and self._owner == threading.get_ident():
            stream.close()
