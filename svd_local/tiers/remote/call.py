"""One clip's traffic: a wall clock around it, and one way to end all of it at once.

The work runs in a thread of its own, because libraries that wait inside themselves cannot be asked
to stop. The caller's thread watches the clock and the caller's wish to cancel; when either says so it
shuts the sockets, which wakes whatever blocks on them, and leaves.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from svd_local.errors import SvdLocalError
from svd_local.tiers.base import Monitor

T = TypeVar("T")

_TICK_S = 0.05
_FAREWELL_S = 0.2
"""How long a thread whose sockets were shut is waited for; it ends by itself later otherwise."""


class Over(Exception):
    """The call was ended, or ran out of time, while something of it was still going on."""


class Call:
    """The time one piece of remote work has, and everything it holds open. Thread-safe."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.note = ""
        """What is being waited for, for people."""

    @property
    def remaining(self) -> float:
        """Seconds left; 0 once the call is over."""
        return 0.0 if self._over.is_set() else max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raise ``Over`` where there is no time left."""
        if self.remaining <= 0:
            raise Over

    def pause(self, seconds: float) -> None:
        """Sleep, without a single look at the clock in between.

        Raises:
            Over: at once when the call ends.
        """
        if self._over.wait(seconds):
            raise Over

    def hold(self, connection: socket.socket) -> None:
        """Take note of an open connection, which ``end`` is to shut."""
        with self._lock:
            self._sockets.append(connection)
        if self._over.is_set():
            _shut(connection)

    def end(self) -> None:
        """End everything: pauses return, and reads and writes fail. More than once is fine."""
        self._over.set()
        with self._lock:
            connections, self._sockets = self._sockets, []
        for connection in connections:
            _shut(connection)


def supervise(
    call: Call,
    work: Callable[[], T],
    monitor: Monitor,
    late: Callable[[], SvdLocalError],
    tick: Callable[[], None] = lambda: None,
) -> T:
    """Run ``work`` in a thread and return what it returns, never later than the call's deadline.

    Args:
        call: is over when this returns, however it does.
        work: uses ``call`` for whatever it waits on.
        monitor: asked 20 times a second whether to stop.
        late: makes the error for a deadline that passed.
        tick: called as often, in the caller's thread, to report progress.

    Raises:
        Cancelled: the caller asked to stop.
        SvdLocalError: ``late``'s, or what ``work`` raised.
    """
    worker = _Worker(work)
    try:
        while not worker.wait(_TICK_S):
            monitor.check()
            if call.remaining <= 0:
                raise late()
            tick()
    finally:
        call.end()
        worker.leave()
    try:
        return worker.result()
    except Over:
        raise late() from None


class _Worker(Generic[T]):
    """A daemon thread with a result: it keeps no program from ending."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._value: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="svd-local-remote", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it has finished, within that time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def leave(self) -> None:
        self._thread.join(_FAREWELL_S)

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value[0]

    def _run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            self._error = error


def _shut(connection: Any) -> None:
    """Wake whatever blocks on the connection. A TLS socket's own method is passed over: it would take
    the session from under the thread that reads.
    """
    with contextlib.suppress(OSError, ValueError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
