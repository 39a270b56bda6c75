"""A service that allows so much and no more."""

from __future__ import annotations

import threading

from servers.scripted import Answer, Exchange


class Allowance:
    """Lets one request in ``interval_s`` through and refuses the others: a trouble that is always met.

    Args:
        interval_s: seconds.
        announces: whether good answers say that the allowance is used up.
        tells: whether refusals say when to come back.
    """

    def __init__(self, interval_s: float, *, announces: bool = False, tells: bool = True) -> None:
        self.interval_s, self._announces, self._tells = interval_s, announces, tells
        self.let_through: list[float] = []
        self.refused = 0
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            now = exchange.seen.at
            early = bool(self.let_through) and now - self.let_through[-1] < self.interval_s
            if early:
                self.refused += 1
            else:
                self.let_through.append(now)
        if early:
            again = {"retry-after": str(self.interval_s)} if self._tells else {}
            exchange.send(Answer(429, b'{"error": "slow down"}', headers=again))
            return
        usual = exchange.usual()
        left = {"ratelimit": f'"api";r=0;t={self.interval_s:.0f}'} if self._announces else {}
        exchange.send(Answer(usual.status, usual.body, usual.type, left))
