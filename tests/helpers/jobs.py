"""Jobs for a store, and a lease that has run out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from svd_local.catalog.jobs import NewJob, Reason
from svd_local.catalog.models import JobRow

BAD = Reason("tier-failed", "it failed", "Try again.")


def new(number: int, **values) -> NewJob:
    usual = {
        "key": f"{number:064x}",
        "row": number + 2,
        "index": number,
        "fields": {"prompt": f"lesson {number}", "seed": number},
    }
    return NewJob(**{**usual, **values})


def expire(catalog, job_id: int) -> None:
    """As if its worker had been silent for longer than its lease."""
    with catalog._ready().writing() as session:
        past = datetime.now(UTC) - timedelta(seconds=5)
        session.execute(update(JobRow).where(JobRow.id == job_id).values(lease_until=past))
