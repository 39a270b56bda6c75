"""How much trouble a remote tier puts up with, declared in one place per tier."""

from __future__ import annotations

import random
from dataclasses import dataclass

PASSING = frozenset({429, 502, 503, 504})
"""Statuses that are tried again: throttled, or a gateway whose server is busy or starting."""
DROPPED = frozenset({502, 504})
"""Those of them that leave open whether the work was begun."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One tier's patience. Seconds and bytes.

    A wait the server asks for (``Retry-After``, a rate limit, a loading model) is kept in full
    where it is at most ``longest_wait_s`` and ends before the deadline; a longer one ends the call
    at once, and the error says when to come back.
    """

    deadline_s: float
    """Wall clock around everything one clip needs, from the first byte to the last."""
    tries: int = 4
    """Times one exchange is begun at most. Waiting for a loading model does not count."""
    backoff_s: float = 1.0
    """First wait where the server names none; it doubles with each try."""
    longest_backoff_s: float = 20.0
    longest_wait_s: float = 120.0
    connect_s: float = 10.0
    max_bytes: int = 256 << 20
    """Most bytes of one answer."""
    resend_dropped: bool = True
    """Whether work is sent again after a connection that broke once it was sent, so that it may have
    been begun. Off where each beginning is paid for; what only asks is always sent again."""

    def backoff(self, tried: int) -> float:
        """Seconds to wait after the ``tried``-th try, drawn between half and all of the bound, so that
        many callers do not come back together.
        """
        bound = min(self.longest_backoff_s, self.backoff_s * 2.0 ** (tried - 1))
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
