"""Asking a running batch to stop: once, after the clips at hand; twice, now."""

from __future__ import annotations

import threading


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
