"""The ladder: tiers are tried in order until one serves. It knows no tier by name.

Which errors end the climb and which lead to the next rung is declared by the error's type
(``falls_through``), so that the table in the README is a table of types:

    unavailable, busy, out of memory           the next tier is tried
    our bug, a broken or unknown checkpoint,
    bad output, bad input, storing, cancelled  the climb stops with the error
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from svd_local.errors import SvdLocalError, TierBusy, TierUnavailable
from svd_local.result import Attempt, Outcome
from svd_local.tiers.base import Tier

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
