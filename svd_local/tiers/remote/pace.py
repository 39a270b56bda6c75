"""How often a service is asked: no more than it allows, over all clips of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from svd_local.errors import TierBusy
from svd_local.tiers.remote.call import Call
from svd_local.tiers.remote.refusals import allowed_interval

_AN_INTERVAL_S = 10.0
"""A ``Retry-After`` up to this is taken for the time between two requests; a longer one for the end of
a window, after which requests may be as frequent as before."""
_MARGIN = 1.05
_ON_THE_WAY_S = 0.03
"""What requests may differ in on their way: the service counts when they arrive."""


class Pace:
    """Spaces the requests that start work. Thread-safe; one per tier.

    Args:
        interval_s: seconds between two requests; grows when the service says that it wants more.
    """

    def __init__(self, interval_s: float = 0.0) -> None:
        self._lock = threading.Lock()
        self._interval = interval_s
        self._next = 0.0

    def turn(self, call: Call) -> None:
        """Wait until a request may be sent, and count it as sent.

        Raises:
            TierBusy: the turn comes after the call's end; nothing was counted.
            Over: the call was ended meanwhile.
        """
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            if at - now >= call.remaining:
                raise TierBusy(
                    "the service allows no further request before the deadline",
                    hint="Try again later, or use another tier.",
                    retry_after_s=round(at - now, 1),
                )
            self._next = at + self._interval
        if at > now:
            call.pause(at - now)

    def slow_down(self, headers: Mapping[str, str], wait_s: float | None) -> None:
        """Learn from a refusal: throttled, and asked to wait ``wait_s``."""
        interval = allowed_interval(headers)
        if interval is None and wait_s is not None and wait_s <= _AN_INTERVAL_S:
            interval = wait_s
        with self._lock:
            if interval is not None:
                self._interval = max(self._interval, interval * _MARGIN + _ON_THE_WAY_S)
            self._next = max(self._next, time.monotonic() + (wait_s or self._interval))
