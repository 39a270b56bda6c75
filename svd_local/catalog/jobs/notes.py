"""What a command notes of its run of a batch: that it goes on, why it pauses, what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from svd_local.catalog.jobs.clock import now
from svd_local.catalog.jobs.values import RunState
from svd_local.catalog.jobs.views import JobViews
from svd_local.catalog.models import BatchRunRow


class BatchNotes(JobViews):
    """The writing of notes. What they say decides nothing; it is for people who look from elsewhere."""

    def note_run(
        self,
        batch_id: str,
        run_id: str,
        who: str | None,
        state: RunState,
        figures: Mapping[str, Any],
        *,
        elapsed_s: float,
        pause: tuple[str, str] | None = None,
    ) -> None:
        """How the run stands, ``elapsed_s`` seconds after its beginning.

        Args:
            batch_id: the batch's.
            run_id: the run's, from ``identity.new_id``; the first note of it makes its row.
            who: the command, by the name of its sign of life.
            state: a run that is ``running`` has to be noted again within ``RUN_HOLDS_S``.
            figures: what it has come to, JSON-able.
            elapsed_s: since it began.
            pause: why it begins no clip now, and what to do about it.
        """
        with self._ready().writing(lasting=state != "running") as session:
            moment = now(session)
            row = session.get(BatchRunRow, run_id, with_for_update=True)
            if row is None:
                began = moment - timedelta(seconds=elapsed_s)
                row = BatchRunRow(id=run_id, batch_id=batch_id, began_at=began, who=who)
                session.add(row)
            row.ended_at, row.state, row.figures = moment, state, dict(figures)
            if pause is None:
                row.pause = None
            else:
                since = moment.isoformat() if row.pause is None else row.pause["since"]
                why, hint = (text.replace("\0", "") for text in pause)
                row.pause = {"why": why, "hint": hint, "since": since}


def lose_runs(session: Session, who: str) -> int:
    """Note that ``who``, which is dead, runs nothing any more; answers how many runs that were."""
    running = (BatchRunRow.who == who, BatchRunRow.state == "running")
    done = session.execute(
        update(BatchRunRow)
        .where(*running)
        .values(state="lost", pause=None)
        .execution_options(synchronize_session=False)
    )
    assert isinstance(done, CursorResult)
    return int(done.rowcount)
