"""Whose clock the leases go by."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session


def now(session: Session) -> datetime:
    """The moment, in UTC: the database's on a server that several machines share, else our own.

    Machines' clocks differ, and a lease that one believes expired may be another's living one. An
    SQLite file has no clock, and one machine.
    """
    if session.get_bind().dialect.name != "postgresql":
        return datetime.now(UTC)
    moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)
