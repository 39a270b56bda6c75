"""Asking a running batch to stop: once, after the clips at hand; twice, now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Control:
    """Shared by a batch and whoever may stop it; thread-safe, and callable from a signal handler."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._cancelling = threading.Event()

    def ask(self) -> None:
        """Ask to stop; asked again, clips at hand are cancelled and their jobs given back."""
        if self._stopping.is_set():
            self._cancelling.set()
        self._stopping.set()

    def cancel(self) -> None:
        """Ask for the utmost at once."""
        self._stopping.set()
        self._cancelling.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def cancelling(self) -> bool:
        return self._cancelling.is_set()


class Wing(Control):
    """The control of a part: stopped with the whole, or by itself."""

    def __init__(self, whole: Control) -> None:
        super().__init__()
        self._whole = whole

    @property
    def stopping(self) -> bool:
        return super().stopping or self._whole.stopping

    @property
    def cancelling(self) -> bool:
        return super().cancelling or self._whole.cancelling


@contextmanager
def interrupts(control: Control) -> Iterator[None]:
    """Ctrl-C is ``control.ask`` within the block, where it is Python's usual interrupt otherwise.

    The interrupt is an exception that may come between any two steps: a worker could be started, and
    forgotten.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(which: int, frame: FrameType | None) -> None:
        control.ask()

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
