"""Workers that are silent: which of them hang, and which only have nothing to say.

A worker beats, from a thread that does nothing else, four times in a lease's time. Without a beat the
process is frozen as a whole, as by SIGSTOP, a full swap or a call into a driver that holds Python's
lock: its leases lapse as well. While it beats it tells by itself which clip hangs, and slow work is
left in peace.
"""

from __future__ import annotations

import time
from typing import Any

from svd_local.batch.options import BatchOptions
from svd_local.batch.stalls import lasted, patience_s
from svd_local.batch.workers.seat import Seat

BEATS_A_LEASE = 4
_FROZEN_LEASES = 1.5
"""Lengths of a lease without a beat. By then others may have its jobs."""
_FIRST_WORD_S = 180.0
"""What a worker may take to its first beat: Python and the libraries that its supervisor has loaded from
the same disk a moment ago, torch not among them."""
_START_S = 900.0
"""What a worker may take to be up: torch from a cold disk, and its GPU's first answer."""
_AWAY_S = 5.0


def why_hung(seat: Seat[Any], options: BatchOptions, now: float) -> str | None:
    """Why the worker in ``seat`` is to be ended, in words that go on ``because``; None: it is not."""
    frozen_s = _FROZEN_LEASES * options.lease_s
    unheard_s = now - seat.beat_at
    if unheard_s > (frozen_s if seat.has_beaten else max(frozen_s, _FIRST_WORD_S)):
        return f"it gave no sign of life for {lasted(unheard_s)}"
    if seat.name is not None and not seat.at_hand:
        return None  # it waits for work
    patience = [patience_s(job, options) for job in seat.at_hand.values()]
    silent_s = now - seat.heard_at
    # The worker itself looks at its clips as often as it beats, and goes first.
    if silent_s > max(patience, default=_START_S) + options.lease_s:
        return f"it said nothing for {lasted(silent_s)}"
    return None


class Attention:
    """Whether somebody listened all the time: what was not heard while nobody did is no silence.

    A supervisor may be stopped itself, as by Ctrl-Z, or be held up by what it calls.
    """

    def __init__(self) -> None:
        self._at = time.monotonic()

    def paid(self, *seats: Seat[Any]) -> float:
        """All that was said has just been heard; answers when that was, by ``time.monotonic``."""
        now = time.monotonic()
        away_s, self._at = now - self._at, now
        if away_s > _AWAY_S:
            for seat in seats:
                seat.beat_at += away_s
                seat.heard_at += away_s
        return now
