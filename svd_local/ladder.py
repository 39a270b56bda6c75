"""The ladder: tiers are tried in order until one serves. It knows no tier by name.

Which errors end the climb and which lead to the next rung is declared by the error's type
(``falls_through``), so that the table in the README is a table of types:

    unavailable, busy, out of memory,
    a service that failed                      the next tier is tried
    our bug, a broken or unknown checkpoint,
    bad output, bad input, storing, cancelled  the climb stops with the error

What a tier declares in its ``policy`` about the clips to come is kept here: one that failed again and
again, or asked to be left alone, is passed over for a while.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from svd_local.errors import Cancelled, RemoteFailed, SvdLocalError, TierBusy, TierUnavailable
from svd_local.result import Attempt, Outcome
from svd_local.tiers.base import Tier
from svd_local.tiers.policy import Policy

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Climb(Generic[T]):
    """What a climb came to: the value of the rung that served, None where none did."""

    value: T | None
    attempts: tuple[Attempt, ...]


def climb(
    tiers: Iterable[Tier],
    serve: Callable[[Tier, tuple[Attempt, ...]], T],
    *,
    fall_through: bool = True,
) -> Climb[T]:
    """Ask each of ``tiers`` in order through ``serve`` until one returns.

    ``serve`` is given the tier and the attempts before it, so that a result can be stored with them.

    With ``fall_through`` false every error stops the climb, as it must where the user named the tier.

    Raises:
        SvdLocalError: one that does not fall through; its ``attempts`` end with the rung it stopped.
        KeyboardInterrupt: with ``attempts``, too.
    """
    attempts: list[Attempt] = []
    for tier in tiers:
        started = time.monotonic()
        try:
            value = serve(tier, tuple(attempts))
        except SvdLocalError as error:
            attempts.append(_attempt(tier.id, error, time.monotonic() - started))
            if not (fall_through and error.falls_through):
                error.attempts = tuple(attempts)
                raise
            continue
        except KeyboardInterrupt as stop:
            cancelled = _attempt(tier.id, Cancelled.by(stop), time.monotonic() - started)
            stop.attempts = (*attempts, cancelled)  # type: ignore[attr-defined]
            raise
        attempts.append(Attempt(tier.id, "ok", elapsed_s=time.monotonic() - started))
        return Climb(value, tuple(attempts))
    return Climb(None, tuple(attempts))


def _attempt(tier: str, error: SvdLocalError, elapsed_s: float) -> Attempt:
    reason = f"{error.message}. {error.hint}" if error.hint else error.message
    return Attempt(tier, _outcome(error), error.code, reason, error.retry_after_s, elapsed_s)


def _outcome(error: SvdLocalError) -> Outcome:
    if isinstance(error, TierUnavailable):
        return "unavailable"
    return "busy" if isinstance(error, TierBusy) else "failed"


class Breakers:
    """Which tiers are left alone, over all clips of a generator. Thread-safe.

    A tier without a policy never is. Wrong passwords and the like do not count: they cost nothing to
    find, and their message is wanted each time. A clip that was cancelled says nothing.
    """

    def __init__(self, tiers: Iterable[Tier]) -> None:
        self._of = {tier.id: _Breaker(tier.id, tier.policy) for tier in tiers if tier.policy}

    def check(self, tier: Tier) -> None:
        """Raise ``TierBusy`` while ``tier`` is left alone; nothing is asked of it."""
        if tier.id in self._of:
            self._of[tier.id].check()

    @contextlib.contextmanager
    def watching(self, tier: Tier, *, serves: bool = True) -> Iterator[None]:
        """Count what the tier's work inside comes to. Without ``serves`` it proves nothing if it goes
        well, as a plan.
        """
        breaker = self._of.get(tier.id)
        if breaker is None:
            yield
            return
        try:
            yield
        except (TierBusy, RemoteFailed) as error:
            breaker.failed(error)
            raise
        if serves:
            breaker.served()


class _Breaker:
    """One tier's: opens after the policy's failures in a row, or for as long as the service asks."""

    def __init__(self, tier: str, policy: Policy) -> None:
        self._tier, self._policy = tier, policy
        self._lock = threading.Lock()
        self._failures = 0
        self._since: float | None = None
        """When the trouble began; None in peace."""
        self._until = 0.0
        self._why = ""

    def check(self) -> None:
        with self._lock:
            left, why, unasked = self._until - time.monotonic(), self._why, self._forgives()
        if left > 0:
            busy = TierBusy(
                f"{self._tier} {why}, and is left alone for a while",
                hint="Try again later, or use another tier meanwhile.",
                retry_after_s=round(left, 1),
            )
            busy.unasked = unasked
            raise busy

    def served(self) -> None:
        with self._lock:
            self._failures, self._since = 0, None

    def failed(self, error: TierBusy | RemoteFailed) -> None:
        """Count it, unless nothing was asked; what lasts too long is no longer forgiven."""
        policy, rest_s, asked_s = self._policy, 0.0, error.retry_after_s
        unasked = isinstance(error, TierBusy) and error.unasked
        with self._lock:
            if self._since is None:
                self._since = time.monotonic()
            self._failures += not unasked
            if self._failures >= policy.failures and not unasked:
                rest_s, self._why = policy.rest_s, f"failed {self._failures} times in a row"
            if asked_s is not None and asked_s > rest_s:
                rest_s, self._why = min(asked_s, policy.longest_rest_s), "asked for a pause"
            self._until = max(self._until, time.monotonic() + rest_s)
            if isinstance(error, TierBusy):
                error.unasked = unasked and self._forgives()

    def _forgives(self) -> bool:
        since = self._since
        return since is None or time.monotonic() - since < self._policy.forgiven_s
