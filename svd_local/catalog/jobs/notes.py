"""What a command notes of a batch it works on: why it pauses, and at its end what the run came to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from svd_local.catalog.identity import new_id
from svd_local.catalog.jobs.clock import now
from svd_local.catalog.jobs.views import JobViews
from svd_local.catalog.models import BatchRow, BatchRunRow


class BatchNotes(JobViews):
    """The writing of notes. What they say decides nothing; it is for people who look from elsewhere."""

    def ran(self, batch_id: str, figures: Mapping[str, Any], elapsed_s: float) -> None:
        """A run of the batch has ended after ``elapsed_s`` seconds; ``figures`` is JSON-able."""
        with self._ready().writing() as session:
            moment = now(session)
            session.add(
                BatchRunRow(
                    id=new_id(moment),
                    batch_id=batch_id,
                    began_at=moment - timedelta(seconds=elapsed_s),
                    ended_at=moment,
                    figures=dict(figures),
                )
            )

    def pausing(self, batch_id: str, who: str, why: str, hint: str, *, holds_s: float) -> None:
        """``who`` begins no clip of the batch now. The note holds for ``holds_s`` seconds unless it is
        written again: one who is killed takes it back no more. Of several the last to write is told.
        """
        with self._ready().writing(lasting=False) as session:
            row = session.get_one(BatchRow, batch_id, with_for_update=True)
            moment = now(session)
            known = row.pause if row.pause is not None and row.pause["who"] == who else None
            row.pause = {
                "who": who,
                "why": why.replace("\0", ""),
                "hint": hint.replace("\0", ""),
                "since": moment.isoformat() if known is None else known["since"],
                "until": (moment + timedelta(seconds=holds_s)).isoformat(),
            }

    def going_on(self, batch_id: str, who: str) -> None:
        """``who`` pauses no longer; what another has noted stays."""
        with self._ready().writing(lasting=False) as session:
            row = session.get_one(BatchRow, batch_id, with_for_update=True)
            if row.pause is not None and row.pause["who"] == who:
                row.pause = None
