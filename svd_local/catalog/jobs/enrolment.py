"""Enrolling a manifest's jobs: what is known stays, what is new is added, what is gone is cancelled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

from sqlalchemy import CursorResult, Table, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from svd_local.catalog.identity import new_id
from svd_local.catalog.jobs.clock import now
from svd_local.catalog.jobs.values import NOT_IN_MANIFEST, NewJob
from svd_local.catalog.models import BatchRow, JobRow
from svd_local.errors import InvalidRequest

_GONE = {
    "error_code": NOT_IN_MANIFEST,
    "error_message": "it is no longer in the manifest",
    "error_hint": "Put it back into the manifest to have it made.",
}
_JOBS = cast("Table", JobRow.__table__)
_MOVED = (
    update(_JOBS)
    .where(_JOBS.c.id == bindparam("_id"))
    .values(
        row=bindparam("_row"),
        position=bindparam("_position"),
        falling_priority=bindparam("_falling_priority"),
    )
)
_UNMARKED = _MOVED.values(error_code=None, error_message=None, error_hint=None)
_BACK = _UNMARKED.values(state="queued", finished_at=None, attempt=0, lost=0)
_AT_ONCE = 1000


def enrol(
    session: Session, name: str, manifest: Path | None, folder: Path, jobs: Iterable[NewJob]
) -> tuple[BatchRow, int, int, int, int]:
    """See ``Jobs.enroll``; answers the batch and how many were added, known, cancelled and are leaving."""
    moment = now(session)
    batch = _batch(session, name, manifest, folder, moment)
    if batch.folder != str(folder.absolute()):
        raise InvalidRequest(
            f"the batch {name!r} writes into {batch.folder}, not into {folder.absolute()}",
            hint="Give this one another name, or that folder.",
            field="folder",
        )
    known = {
        row.key: row
        for row in session.execute(
            select(
                JobRow.key,
                JobRow.id,
                JobRow.state,
                JobRow.error_code,
                JobRow.row,
                JobRow.position,
                JobRow.falling_priority,
            ).where(JobRow.batch_id == batch.id)
        )
    }
    groups = _Groups(session, batch.id)
    seen: dict[str, int] = {}
    added = 0
    for some in _portions(jobs):
        new: list[dict[str, Any]] = []
        back: list[dict[str, Any]] = []
        moved: list[dict[str, Any]] = []
        kept: list[dict[str, Any]] = []
        for job in some:
            if job.key in seen:
                raise ValueError(f"rows {seen[job.key]} and {job.row} have the same key {job.key}")
            seen[job.key] = job.row
            grouping = groups.of(job)
            there = known.get(job.key)
            if there is None:
                new.append(_values(job, batch.id, grouping, moment))
            elif there.error_code == NOT_IN_MANIFEST:
                (kept if there.state == "running" else back).append(_place(there.id, job))
            elif (there.row, there.position, -there.falling_priority) != (
                job.row,
                job.index,
                job.priority,
            ):
                moved.append(_place(there.id, job))
        changes = ((insert(JobRow), new), (_BACK, back), (_UNMARKED, kept), (_MOVED, moved))
        for statement, values in changes:
            if values:
                session.connection().execute(statement, values)
        added += len(new) + len(back)
    lost = [row for key, row in known.items() if key not in seen]
    # Each state again in the statement: a worker may have claimed or finished the job meanwhile.
    over = {**_GONE, "state": "cancelled", "token": None, "finished_at": moment}
    cancelled = _change(session, lost, "queued", over)
    _change(session, lost, "failed", over)  # a row that was corrected is another
    return batch, added, len(seen) - added, cancelled, _change(session, lost, "running", _GONE)


def _change(session: Session, rows: Sequence[Any], state: str, values: Mapping[str, Any]) -> int:
    """Change those of ``rows`` that are in ``state``; answers how many are."""
    count = 0
    for ids in _portions(row.id for row in rows if row.state in ("queued", "running", "failed")):
        done = session.execute(
            update(_JOBS).where(_JOBS.c.id.in_(ids), _JOBS.c.state == state).values(**values)
        )
        assert isinstance(done, CursorResult)
        count += done.rowcount
    return count


def _batch(
    session: Session, name: str, manifest: Path | None, folder: Path, moment: datetime
) -> BatchRow:
    """The batch's row, made where it is not there, and locked: one enrolment at a time."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(
        dialect.insert(BatchRow)
        .values(
            id=new_id(moment),
            name=name,
            created_at=moment,
            manifest=None if manifest is None else str(manifest.absolute()),
            folder=str(folder.absolute()),
        )
        .on_conflict_do_nothing(index_elements=["name"])
    )
    return session.scalars(select(BatchRow).where(BatchRow.name == name).with_for_update()).one()


class _Groups:
    """Where each group of jobs stands in line: at its first job's position when it first came up."""

    def __init__(self, session: Session, batch_id: str) -> None:
        there = session.scalars(
            select(JobRow.grouping).where(JobRow.batch_id == batch_id).distinct()
        )
        self._known = {grouping.partition("-")[2]: grouping for grouping in there}

    def of(self, job: NewJob) -> str:
        name = hashlib.sha256(job.group.encode()).hexdigest()[:16]
        return self._known.setdefault(name, f"{job.index:010d}-{name}")


def _values(job: NewJob, batch_id: str, grouping: str, moment: datetime) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "key": job.key,
        "row": job.row,
        "position": job.index,
        "fields": dict(job.fields),
        "folder": job.folder,
        "name": job.name,
        "falling_priority": -job.priority,
        "grouping": grouping,
        "state": "queued",
        "attempt": 0,
        "not_before": moment,
        "cached": False,
    }


def _place(id_: int, job: NewJob) -> dict[str, Any]:
    """Where a known job now is in the manifest. What it is to make stays as it was enrolled."""
    return {
        "_id": id_,
        "_row": job.row,
        "_position": job.index,
        "_falling_priority": -job.priority,
    }


def _portions(items: Iterable[Any]) -> Iterator[Sequence[Any]]:
    rest = iter(items)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
