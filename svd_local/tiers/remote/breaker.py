"""A service that fails again and again, or asks to be left alone, is left alone for a while."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from svd_local.errors import RemoteFailed, TierBusy

_LONGEST_S = 600.0


class Breaker:
    """Opens after ``failures`` in a row, for ``rest_s`` seconds, or for as long as the service asks.

    A batch would otherwise wait out the deadline of a dead service for each of its clips. Wrong
    passwords and the like do not count: they cost nothing to find, and their message is wanted each
    time. Thread-safe.
    """

    def __init__(self, who: str, failures: int = 3, rest_s: float = 60.0) -> None:
        self._who, self._most, self._rest_s = who, failures, rest_s
        self._lock = threading.Lock()
        self._failed = 0
        self._until = 0.0
        self._why = ""

    def check(self) -> None:
        """Raise ``TierBusy`` while the service is left alone."""
        with self._lock:
            left = self._until - time.monotonic()
        if left > 0:
            raise TierBusy(
                f"{self._who} {self._why}, and is left alone for a while",
                hint="Try again later, or use another tier meanwhile.",
                retry_after_s=round(left, 1),
            )

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Count what the work inside comes to. A clip that was cancelled says nothing."""
        try:
            yield
        except (TierBusy, RemoteFailed) as error:
            self._count(error.retry_after_s)
            raise
        with self._lock:
            self._failed = 0

    def _count(self, asked_s: float | None) -> None:
        with self._lock:
            self._failed += 1
            rest_s = 0.0
            if self._failed >= self._most:
                rest_s, self._why = self._rest_s, f"failed {self._failed} times in a row"
            if asked_s is not None and asked_s > rest_s:
                rest_s, self._why = min(asked_s, _LONGEST_S), "asked for a pause"
            self._until = time.monotonic() + rest_s
