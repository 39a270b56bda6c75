"""How much trouble is put up with, declared as data, one value a tier.

Two engines run it and know no tier by name: the door (``tiers/remote``) whatever concerns one exchange,
since a whole clip tried again would be paid for again; the ladder whatever concerns the next clip.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

PASSING = frozenset({429, 502, 503, 504})
"""Statuses that are tried again: throttled, or a gateway whose server is busy or starting."""
DROPPED = frozenset({502, 504})
"""Those of them that leave open whether the work was begun."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One tier's patience. Seconds and bytes.

    A batch would wait out the deadline of a dead service for each of its clips: after ``failures``
    clips in a row that it failed, the ladder passes the tier over for ``rest_s``.

    A wait the server asks for (``Retry-After``, a rate limit, a loading model) is kept in full
    where it is at most ``longest_wait_s`` and ends before the deadline; a longer one ends the call
    at once, and the error says when to come back.
    """

    deadline_s: float
    """Wall clock around everything one clip needs of the service, from the first question to the last
    byte."""
    tries: int = 4
    """Times one exchange is begun at most. Waiting for a loading model does not count."""
    backoff_s: float = 1.0
    """First wait where the server names none; it doubles with each try."""
    longest_backoff_s: float = 20.0
    longest_wait_s: float = 120.0
    connect_s: float = 10.0
    answer_s: float = math.inf
    """Most seconds for one answer, once its request was sent: for questions that are quick to answer."""
    seeks: bool = True
    """Whether a server that is not there is tried again, since it may be starting."""
    max_bytes: int = 256 << 20
    """Most bytes of one answer."""
    resend_dropped: bool = True
    """Whether work is sent again after a connection that broke once it was sent, so that it may have
    been begun. Off where each beginning is paid for; what only asks is always sent again."""

    interval_s: float = 0.0
    """Least time between two requests that start work, until the service says what it allows."""
    failures: int = 3
    """Clips it may fail in a row before the ladder leaves it alone."""
    rest_s: float = 60.0
    """How long that is, where the service names no time of its own."""
    longest_rest_s: float = 600.0
    """Most that a service's own time counts for."""
    forgiven_s: float = 3600.0
    """How long trouble may last until clips that are only left alone count as failed ones: a batch is
    to outlast a service's bad hour, and to end where the service is gone for good."""

    def backoff(self, tried: int) -> float:
        """Seconds to wait after the ``tried``-th try, drawn between half and all of the bound, so that
        many callers do not come back together.
        """
        bound = min(self.longest_backoff_s, self.backoff_s * 2.0 ** (tried - 1))
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
