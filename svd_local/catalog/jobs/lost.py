"""Tries that ended with their worker: what is said of them, and when there have been enough."""

from __future__ import annotations

import dataclasses

from svd_local.catalog.jobs.values import Reason

WORKER_LOST = "worker-lost"
"""The reason's code of a try that ended with its worker."""
LOST_TRIES = 10
"""How many tries of a job may end with a worker that nobody watched, before the job is taken to be what
ends it. Whoever is killed, or loses power, has done nothing to deserve it: these are not the batch's tries."""
WORKER_LOST_HINT = "If that happens again, look for what kills it: memory, most often."
_FOR_GOOD_HINT = (
    "Look for what kills it: memory, most often. Then svd-local batch retry queues it again."
)


def unseen(times: int) -> Reason:
    """Why a try is over whose worker ended, nobody saw of what; so have ``times`` of this job by now."""
    often = "" if times == 1 else f", {times} times by now"
    return Reason(
        WORKER_LOST,
        f"its worker, or the whole command, ended or hung without a word{often}",
        WORKER_LOST_HINT,
    )


def for_good(reason: Reason) -> Reason:
    """``reason`` for giving a job up: what to do if it happens again is no advice any more."""
    return dataclasses.replace(reason, hint=reason.hint.replace(WORKER_LOST_HINT, _FOR_GOOD_HINT))
