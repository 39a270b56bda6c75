"""Looking at batches and jobs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import cast

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from svd_local.catalog.database import Database
from svd_local.catalog.jobs.clock import now
from svd_local.catalog.jobs.values import (
    NOT_IN_MANIFEST,
    RUN_HOLDS_S,
    Batch,
    Job,
    Pause,
    Run,
    RunState,
    State,
)
from svd_local.catalog.models import BatchRow, BatchRunRow, JobRow
from svd_local.errors import NotFound


@dataclass(frozen=True, slots=True)
class Outlook:
    """What of a batch is still to be done, and how soon something of it can be."""

    queued: int
    running: int
    next_s: float | None
    """Seconds until a queued job may begin or a lease expires, 0 where one may now; None: never."""
    workers: tuple[str, ...] = ()
    """Who is running jobs of it, dead or alive."""

    @property
    def over(self) -> bool:
        return not (self.queued or self.running)


class JobViews:
    """The reading half of ``Jobs``. Reading never makes a database: without one there are no batches.

    Args:
        database: the catalog's.
        ready: answers the same, brought up to date.
        root: the media root, which paths are written down relative to.
    """

    def __init__(self, database: Database, ready: Callable[[], Database], root: Path) -> None:
        self._database = database
        self._ready = ready
        self._root = root

    def batches(self) -> list[Batch]:
        """All of them, newest first, with their counts."""
        if not self._database.exists:
            return []
        with self._ready().reading() as session:
            counts = _all_counts(session)
            rows = session.scalars(select(BatchRow).order_by(BatchRow.id.desc()))
            pauses = paused(session)
            return [viewed(row, counts[row.id], pauses.get(row.id)) for row in rows]

    def batch(self, name: str) -> Batch:
        """The batch called ``name``, or whose id or name alone begins with it.

        Raises:
            NotFound: none, or more than one.
        """
        batches = self.batches()
        exact = [batch for batch in batches if batch.name == name]
        found = exact or [
            batch
            for batch in batches
            if name and (batch.name.startswith(name) or batch.id.startswith(name.lower()))
        ]
        if len(found) != 1:
            raise NotFound(
                f"more than one batch begins with {name!r}" if found else f"no batch {name!r}",
                hint="Write more of it." if found else _known(batches),
            )
        return found[0]

    def counts(self, batch_id: str) -> Mapping[State, int]:
        """How many jobs are in each state; states of none are left out."""
        with self._ready().reading() as session:
            return counted(session, batch_id)

    def outlook(self, batch_id: str) -> Outlook:
        """What is left, and when something of it can be begun, by the leases' clock."""
        with self._ready().reading() as session:
            counts = counted(session, batch_id)
            due = session.execute(
                select(
                    func.min(JobRow.not_before).filter(JobRow.state == "queued"),
                    func.min(JobRow.lease_until).filter(JobRow.state == "running"),
                ).where(JobRow.batch_id == batch_id, JobRow.state.in_(("queued", "running")))
            ).one()
            moments = [moment for moment in due if moment is not None]
            moment = now(session)
            workers = _workers(session, batch_id)
        next_s = max(0.0, (min(moments) - moment).total_seconds()) if moments else None
        return Outlook(counts.get("queued", 0), counts.get("running", 0), next_s, workers)

    def jobs(
        self,
        batch_id: str,
        *,
        state: State | None = None,
        after: Job | None = None,
        limit: int | None = 100,
    ) -> list[Job]:
        """The batch's jobs in the manifest's order, of one state or all, ``limit`` after ``after``."""
        query = select(JobRow).where(JobRow.batch_id == batch_id)
        if state is not None:
            query = query.where(JobRow.state == state)
        if after is not None:
            later = and_(JobRow.position == after.index, JobRow.id > after.id)
            query = query.where(or_(JobRow.position > after.index, later))
        with self._ready().reading() as session:
            rows = session.scalars(query.order_by(JobRow.position, JobRow.id).limit(limit))
            return [row.stored(self._root) for row in rows]

    def job(self, job_id: int) -> Job:
        """One job as it stands.

        Raises:
            NotFound: there is none.
        """
        with self._ready().reading() as session:
            row = session.get(JobRow, job_id)
            if row is None:
                raise NotFound(f"no job {job_id}", hint="svd-local batch status shows the jobs.")
            return row.stored(self._root)

    def runs(self, batch_id: str, limit: int | None = 20) -> list[Run]:
        """The batch's runs, the latest first. One that says nothing any more is lost."""
        query = select(BatchRunRow).where(BatchRunRow.batch_id == batch_id)
        latest = (BatchRunRow.began_at.desc(), BatchRunRow.id.desc())
        with self._ready().reading() as session:
            rows = session.scalars(query.order_by(*latest).limit(limit))
            moment = now(session)
            return [_run(row, moment) for row in rows]

    def over(self, name: str) -> dict[str, State]:
        """The states, by key, of those jobs of the batch called ``name`` that no run of it begins again.

        Without such a batch there are none. What is cancelled because its manifest lost it comes back
        with its row, and is not among them.
        """
        if not self._database.exists:
            return {}
        query = (
            select(JobRow.key, JobRow.state)
            .join(BatchRow, BatchRow.id == JobRow.batch_id)
            .where(
                BatchRow.name == name,
                JobRow.state.in_(("done", "failed", "cancelled")),
                func.coalesce(JobRow.error_code, "") != NOT_IN_MANIFEST,
            )
        )
        with self._ready().reading() as session:
            return {key: cast("State", state) for key, state in session.execute(query)}

    def folders(self, batch_id: str) -> list[str | None]:
        """Every folder, below the batch's own, that a job of it has its files in."""
        with self._ready().reading() as session:
            folders = select(JobRow.folder).where(JobRow.batch_id == batch_id).distinct()
            return list(session.scalars(folders))

    def several(self, batch_id: str, *, cancelled: bool = False) -> frozenset[int]:
        """The rows of which the batch is to make more than one clip, or has ``cancelled`` ones as well."""
        query = select(JobRow.row).where(JobRow.batch_id == batch_id)
        if not cancelled:
            query = query.where(JobRow.state != "cancelled")
        query = query.group_by(JobRow.row).having(func.count() > 1)
        with self._ready().reading() as session:
            return frozenset(session.scalars(query))

    def workers(self, batch_id: str) -> dict[str, int]:
        """Who is running jobs of the batch, dead or alive, and how many."""
        running = (JobRow.batch_id == batch_id, JobRow.state == "running")
        query = select(JobRow.worker, func.count()).where(*running).group_by(JobRow.worker)
        with self._ready().reading() as session:
            return {name: count for name, count in session.execute(query) if name is not None}


def counted(session: Session, batch_id: str) -> dict[State, int]:
    """``counts`` within a session."""
    return _all_counts(session, batch_id)[batch_id]


def viewed(row: BatchRow, counts: Mapping[State, int], pause: Pause | None = None) -> Batch:
    """The row as a value, independent of the database."""
    return Batch(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        manifest=row.manifest,
        folder=row.folder,
        counts=counts,
        options=row.options,
        skipped=row.skipped,
        pause=pause,
    )


def paused(session: Session) -> dict[str, Pause]:
    """Why a run begins no clip now, by the batches' ids; of several the one that has waited longest."""
    query = select(BatchRunRow).where(
        BatchRunRow.state == "running", BatchRunRow.pause.is_not(None)
    )
    moment = now(session)
    found: dict[str, Pause] = {}
    for row in session.scalars(query):
        pause, before = _run(row, moment).pause, found.get(row.batch_id)
        if pause is not None and (before is None or pause.since < before.since):
            found[row.batch_id] = pause
    return found


def _run(row: BatchRunRow, moment: datetime) -> Run:
    run = Run(
        began_at=row.began_at,
        ended_at=row.ended_at,
        figures=row.figures,
        state=cast("RunState", row.state),
        who=row.who,
        pause=None
        if row.pause is None
        else Pause(
            row.pause["why"],
            row.pause["hint"],
            datetime.fromisoformat(row.pause["since"]),
            row.who,
        ),
    )
    silent = run.state == "running" and moment - row.ended_at > timedelta(seconds=RUN_HOLDS_S)
    return run.lost() if silent else run


def _workers(session: Session, batch_id: str) -> tuple[str, ...]:
    """``workers`` within a session."""
    running = select(JobRow.worker).where(JobRow.batch_id == batch_id, JobRow.state == "running")
    return tuple(name for name in session.scalars(running.distinct()) if name is not None)


def _all_counts(
    session: Session, batch_id: str | None = None
) -> defaultdict[str, dict[State, int]]:
    query = select(JobRow.batch_id, JobRow.state, func.count()).group_by(
        JobRow.batch_id, JobRow.state
    )
    if batch_id is not None:
        query = query.where(JobRow.batch_id == batch_id)
    counts: defaultdict[str, dict[State, int]] = defaultdict(dict)
    for batch, state, number in session.execute(query):
        counts[batch][cast("State", state)] = number  # the table's own check says that it is one
    return counts


def _known(batches: Iterable[Batch]) -> str:
    names = [batch.name for batch in batches][:5]
    return f"There is {', '.join(names)}." if names else "No batch was ever run here."
