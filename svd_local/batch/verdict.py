"""What follows from a failed try: another one, when, or none."""

from __future__ import annotations

from dataclasses import dataclass

from svd_local.batch.options import BatchOptions
from svd_local.catalog.jobs import Reason
from svd_local.errors import (
    CheckpointOffline,
    DeviceLost,
    DiskFull,
    InvalidRequest,
    SvdLocalError,
    TierBusy,
    TierUnavailable,
)

_LONGEST_BACKOFF_S = 600.0
_LONGEST_WAIT_S = 3600.0
"""Most that is waited where a service names its time: it may mean days."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``final``: no try can succeed. Else the next may begin after ``delay_s`` seconds. Without ``counts``
    this was none: nothing was asked of the service, or the disk was full.
    """

    reason: Reason
    final: bool
    delay_s: float
    counts: bool = True


def judge(
    error: Exception, attempt: int, options: BatchOptions, *, others: bool = False
) -> Verdict:
    """What to do after try ``attempt`` ended with ``error``.

    Bad input stays bad, and so does a machine that is not set up for the tier or lacks the checkpoint:
    those are given up at once, whole, with what to do. All else may pass, a bug of ours too; and with
    ``others``, machines that are set up otherwise, what this one cannot do may be done there.
    """
    backoff = min(options.backoff_s * 2.0 ** (attempt - 1), _LONGEST_BACKOFF_S)
    if not isinstance(error, SvdLocalError):
        reason = Reason(
            "bug",
            f"a bug in svd_local: {type(error).__name__}: {error}",
            "Please report it.",
        )
        return Verdict(reason, final=False, delay_s=backoff)
    passing = isinstance(error, CheckpointOffline) or others
    final = isinstance(error, InvalidRequest) or (
        isinstance(error, TierUnavailable) and not passing
    )
    if isinstance(error, DeviceLost):
        backoff = 0.0  # what has to be waited for is another process
    full = isinstance(error, DiskFull)
    if full:
        backoff = 0.0  # the lanes wait for room, ``Space``, and others may have some
    asked_s = error.retry_after_s
    delay_s = backoff if asked_s is None else min(asked_s, _LONGEST_WAIT_S)
    counts = not (full or (isinstance(error, TierBusy) and error.unasked))
    return Verdict(Reason(error.code, error.message, error.hint), final, delay_s, counts)
