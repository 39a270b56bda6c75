"""Leased jobs: who makes which clip of a batch, so that none is forgotten and none published twice.

Importing this package loads no database library; touching ``Jobs`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svd_local.catalog.jobs.lost import WORKER_LOST, WORKER_LOST_HINT
from svd_local.catalog.jobs.values import (
    RUN_HOLDS_S,
    STATES,
    Batch,
    Enrolment,
    Job,
    Lease,
    NewJob,
    Pause,
    Reason,
    Run,
    RunState,
    State,
)

if TYPE_CHECKING:
    from svd_local.catalog.jobs.store import Jobs

__all__ = [
    "RUN_HOLDS_S",
    "STATES",
    "WORKER_LOST",
    "WORKER_LOST_HINT",
    "Batch",
    "Enrolment",
    "Job",
    "Jobs",
    "Lease",
    "NewJob",
    "Pause",
    "Reason",
    "Run",
    "RunState",
    "State",
]


def __getattr__(name: str) -> Any:
    if name == "Jobs":
        from svd_local.catalog.jobs.store import Jobs

        return Jobs
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
