"""The job store: at-least-once execution, exactly-once publication.

A job's life::

    queued ──claim──> running ──finish──> done
       ^                 │ ├───fail────> queued again, not before a moment; failed after the last try
       │                 │ └──release──> queued, the try not counted
       ├──lease expired──┘               (cancelled instead of queued where its manifest has lost it)
       └──retry── failed, cancelled                  cancel: queued or running ──> cancelled

A claim gives a lease: a random token and an end, put off by ``heartbeat``. Whoever holds the token of
a running job, and nobody else, may change it. The row of a finished clip and the job's completion are
written in one transaction, in which the token is checked (``complete``): of two workers that made the
same clip, because one was slow and taken for dead, one publishes.

Every change is one transaction. On PostgreSQL claims lock single rows and skip what others are about
to take; on SQLite a claim holds the write lock for its moment. Claims and heartbeats do not wait for the
device: a power failure may forget them, and the job is then begun again. All else waits.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, and_, select, update
from sqlalchemy.orm import Session

from svd_local.catalog.jobs.clock import now
from svd_local.catalog.jobs.enrolment import enrol
from svd_local.catalog.jobs.lost import LOST_TRIES, for_good, unseen
from svd_local.catalog.jobs.notes import BatchNotes, lose_runs
from svd_local.catalog.jobs.values import (
    NOT_IN_MANIFEST,
    Enrolment,
    Job,
    Lease,
    NewJob,
    Reason,
    State,
)
from svd_local.catalog.jobs.views import counted, viewed
from svd_local.catalog.models import MAX_CODE, JobRow
from svd_local.catalog.stored import relative_to_root
from svd_local.errors import LeaseLost


class Jobs(BatchNotes):
    """The jobs of all batches in one catalog's database. Thread-safe; processes may share it.

    Made by ``Catalog.jobs``. Every method raises ``StorageFailed`` where the database cannot be used.
    """

    def enroll(
        self,
        name: str,
        jobs: Iterable[NewJob],
        *,
        folder: Path,
        manifest: Path | None = None,
        options: Mapping[str, Any] | None = None,
        skipped: Mapping[str, Any] | None = None,
    ) -> Enrolment:
        """Make the batch ``name`` hold ``jobs``; the same again changes nothing.

        A job whose key the batch knows stays as it was enrolled, whatever its state; only its row,
        index and priority follow the manifest. New ones are added. Queued and failed ones that are no
        longer among ``jobs`` are cancelled, and come back with their row and all their tries; running
        ones are as soon as their workers end or give them back. ``options``, JSON-able, are kept where
        none are known; ``skipped``, likewise, or that nothing was, is kept each time.

        Raises:
            ValueError: two of ``jobs`` have one key.
            InvalidRequest: the batch has another folder.
        """
        with self._ready().writing() as session:
            batch, added, known, cancelled, left = enrol(session, name, manifest, folder, jobs)
            if batch.options is None and options is not None:
                batch.options = dict(options)
            batch.skipped = None if skipped is None else dict(skipped)
            value = viewed(batch, counted(session, batch.id))
        return Enrolment(value, added, known, cancelled, left, options)

    def claim(self, batch_id: str, worker: str, *, lease_s: float) -> Lease | None:
        """The next job, now running for ``worker``; None where none can be begun now.

        The highest priority goes first, then the group that came first in the manifest, then what
        waited longest, then the manifest's order. Jobs whose lease has expired are queued again
        before, as ``release_dead`` does it.
        """
        with self._ready().writing(lasting=False) as session:
            moment = now(session)
            expired = and_(JobRow.batch_id == batch_id, JobRow.lease_until < moment)
            self._requeue(session, expired, moment)
            row = session.scalars(
                select(JobRow)
                .where(
                    JobRow.batch_id == batch_id,
                    JobRow.state == "queued",
                    JobRow.not_before <= moment,
                )
                .order_by(
                    JobRow.falling_priority,
                    JobRow.grouping,
                    JobRow.not_before,
                    JobRow.position,
                )
                .limit(1)
                .with_for_update(skip_locked=True)
            ).first()
            if row is None:
                return None
            row.state = "running"
            row.attempt += 1
            row.worker = worker
            row.token = secrets.token_hex(16)
            row.started_at = moment
            row.lease_until = moment + timedelta(seconds=lease_s)
            return Lease(row.stored(self._root), row.token, lease_s)

    def heartbeat(self, lease: Lease) -> None:
        """Put off the lease's end.

        Raises:
            LeaseLost: the job is somebody else's by now, or was cancelled: stop, publish nothing.
        """
        with self._ready().writing(lasting=False) as session:
            until = now(session) + timedelta(seconds=lease.lease_s)
            _change(session, lease, lease_until=until)

    def complete(
        self, session: Session, lease: Lease, *, clip_id: str | None, path: Path, cached: bool
    ) -> None:
        """Within a transaction of the same database: the job is done, together with what else it writes.

        Raises:
            LeaseLost: as for ``heartbeat``; the transaction must be undone.
        """
        _change(session, lease, **self._done(session, clip_id, path, cached))

    def finish(self, lease: Lease, *, clip_id: str | None, path: Path, cached: bool) -> None:
        """``complete`` in a transaction of its own, for a clip whose row was there before.

        Raises:
            LeaseLost: as for ``heartbeat``.
        """
        with self._ready().writing() as session:
            self.complete(session, lease, clip_id=clip_id, path=path, cached=cached)

    def complete_for_dead(
        self, session: Session, job_id: int, token: str, *, clip_id: str, path: Path
    ) -> None:
        """``complete`` on behalf of a worker that died after publishing its file.

        Its lease may have expired meanwhile, or the job been given up over that death, as long as
        nobody has claimed it since.

        Raises:
            LeaseLost: somebody has, or it was cancelled.
        """
        mine = and_(
            JobRow.id == job_id,
            JobRow.token == token,
            JobRow.state.in_(("running", "queued", "failed")),
        )
        _update_one(session, mine, job_id, self._done(session, clip_id, path, cached=False))

    def fail(
        self,
        lease: Lease,
        reason: Reason,
        *,
        tries: int,
        delay_s: float,
        final: bool = False,
        counts: bool = True,
    ) -> Job:
        """This try failed: queue the job again in ``delay_s`` seconds, or give it up.

        It is given up where that was try ``tries``, those apart of which nobody saw the end, or where
        ``final`` says that no try can succeed.
        Without ``counts`` nothing was tried, and the job keeps its tries.

        Raises:
            LeaseLost: as for ``heartbeat``.
        """
        with self._ready().writing() as session:
            moment = now(session)
            over = final or (counts and lease.job.attempt - lease.job.lost >= tries)
            if _is_gone(session, lease):
                _change(session, lease, **_dropped(moment))
                return session.get_one(JobRow, lease.job.id).stored(self._root)
            _change(
                session,
                lease,
                state="failed" if over else "queued",
                attempt=JobRow.attempt - int(not counts),
                not_before=moment + timedelta(seconds=0 if over else delay_s),
                finished_at=moment if over else None,
                lease_until=None,
                token=None,
                **_told(for_good(reason) if over else reason),
            )
            return session.get_one(JobRow, lease.job.id).stored(self._root)

    def release(self, lease: Lease) -> bool:
        """Give the job back unmade, as when the user stops the batch: the try does not count.

        Answers whether it is queued; its manifest may have lost it.

        Raises:
            LeaseLost: as for ``heartbeat``.
        """
        with self._ready().writing() as session:
            if _is_gone(session, lease):
                _change(session, lease, **_dropped(now(session)))
                return False
            _change(
                session,
                lease,
                state="queued",
                attempt=JobRow.attempt - 1,
                lease_until=None,
                token=None,
            )
            return True

    def release_dead(
        self, worker: str, reasons: Mapping[int, Reason] = MappingProxyType({}), *, tries: int = 1
    ) -> int:
        """Queue again what ``worker``, which is known to be dead, was running; answers how many.

        As when its leases had expired: a job is given up after ``LOST_TRIES`` that ended so. But those
        in ``reasons``, which has what was seen of its death by the jobs' ids, after try ``tries``. A run
        of a batch that it was noted to be on is lost.
        """
        with self._ready().writing() as session:
            lose_runs(session, worker)
            theirs = and_(JobRow.worker == worker, JobRow.state == "running")
            return self._requeue(session, theirs, now(session), reasons, tries)

    def release_ended(self, worker: str) -> int:
        """``release`` all that ``worker`` was running, which was ended because the batch was stopped;
        answers how many are queued. Their tokens stay, for ``complete_for_dead``.
        """
        with self._ready().writing() as session:
            theirs = and_(JobRow.worker == worker, JobRow.state == "running")
            gone = and_(theirs, JobRow.error_code == NOT_IN_MANIFEST)
            _update(session, gone, **_dropped(now(session)))
            back = {"state": "queued", "attempt": JobRow.attempt - 1, "lease_until": None}
            return _update(session, theirs, **back)

    def cancel(self, batch_id: str, ids: Collection[int] | None = None) -> int:
        """Cancel what is queued or running, all or ``ids``; answers how many.

        Whoever runs one learns it from the next heartbeat, and publishes nothing.
        """
        reason = Reason("cancelled", "it was cancelled", "svd-local batch retry queues it again.")
        with self._ready().writing() as session:
            return _update(
                session,
                and_(_of(batch_id, ids), JobRow.state.in_(("queued", "running"))),
                state="cancelled",
                token=None,
                lease_until=None,
                finished_at=now(session),
                **_told(reason),
            )

    def retry(
        self,
        batch_id: str,
        ids: Collection[int] | None = None,
        *,
        states: Sequence[State] = ("failed",),
    ) -> int:
        """Queue again what is in ``states``, all or ``ids``, with all its tries; answers how many.

        Raises:
            ValueError: ``states`` holds others than failed, cancelled and done.
        """
        if not set(states) <= {"failed", "cancelled", "done"}:
            raise ValueError(f"{states} are not all over")
        with self._ready().writing() as session:
            return _update(
                session,
                and_(_of(batch_id, ids), JobRow.state.in_(states)),
                state="queued",
                attempt=0,
                lost=0,
                not_before=now(session),
                token=None,
                clip_id=None,
                path=None,
                cached=False,
                finished_at=None,
                **_told(None),
            )

    def _done(
        self, session: Session, clip_id: str | None, path: Path, cached: bool
    ) -> dict[str, Any]:
        return {
            "state": "done",
            "clip_id": clip_id,
            "path": relative_to_root(path, self._root),
            "cached": cached,
            "finished_at": now(session),
            "lease_until": None,
            **_told(None),
        }

    def _requeue(
        self,
        session: Session,
        which: ColumnElement[bool],
        moment: datetime,
        reasons: Mapping[int, Reason] = MappingProxyType({}),
        tries: int = 1,
    ) -> int:
        """Take the running jobs ``which`` from their workers. Their tokens stay, for ``complete_for_dead``.

        They go last in their group: one that kills whoever takes it holds up no other.
        """
        rows = session.scalars(
            select(JobRow).where(which, JobRow.state == "running").with_for_update(skip_locked=True)
        ).all()
        for row in rows:
            row.lease_until = None
            if row.error_code == NOT_IN_MANIFEST:
                for name, value in _dropped(moment).items():
                    setattr(row, name, value)
                continue
            reason = reasons.get(row.id)
            if reason is None:
                row.lost += 1
                reason = unseen(row.lost)
                over = row.lost >= LOST_TRIES
            else:
                over = row.attempt - row.lost >= tries
            reason = for_good(reason) if over else reason
            row.state = "failed" if over else "queued"
            row.finished_at = moment if over else None
            row.not_before = moment
            row.error_code = reason.code
            row.error_message = reason.message
            row.error_hint = reason.hint
        session.flush()
        return len(rows)


def _is_gone(session: Session, lease: Lease) -> bool:
    """Whether the manifest of the job, which is running, has lost it."""
    code = select(JobRow.error_code).where(JobRow.id == lease.job.id, JobRow.state == "running")
    return session.scalar(code.with_for_update()) == NOT_IN_MANIFEST


def _dropped(moment: datetime) -> dict[str, Any]:
    """A job that its manifest has lost, and whose worker is done with it; the reason is there."""
    return {"state": "cancelled", "finished_at": moment, "lease_until": None, "token": None}


def _change(session: Session, lease: Lease, **values: Any) -> None:
    """Change the job ``lease`` is of, if it still is."""
    held = and_(JobRow.id == lease.job.id, JobRow.token == lease.token, JobRow.state == "running")
    _update_one(session, held, lease.job.id, values)


def _update_one(
    session: Session, which: ColumnElement[bool], job_id: int, values: dict[str, Any]
) -> None:
    if _update(session, which, **values) != 1:
        raise LeaseLost(
            f"job {job_id} is no longer this worker's",
            hint="Another worker has taken it over, or it was cancelled; nothing was published.",
        )


def _update(session: Session, which: ColumnElement[bool], **values: Any) -> int:
    done = session.execute(
        update(JobRow).where(which).values(**values).execution_options(synchronize_session=False)
    )
    assert isinstance(done, CursorResult)
    return int(done.rowcount)


def _told(reason: Reason | None) -> dict[str, str | None]:
    if reason is None:
        return {"error_code": None, "error_message": None, "error_hint": None}
    return {
        "error_code": reason.code[:MAX_CODE],
        "error_message": reason.message.replace("\0", ""),
        "error_hint": reason.hint.replace("\0", ""),
    }


def _of(batch_id: str, ids: Collection[int] | None) -> ColumnElement[bool]:
    every = JobRow.batch_id == batch_id
    return every if ids is None else and_(every, JobRow.id.in_(ids))
