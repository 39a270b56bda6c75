"""The tables. A change here needs a migration; a test compares the two."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from svd_local.catalog.jobs.values import Job, Reason, State
from svd_local.catalog.stored import StoredClip, placed
from svd_local.result import Files, Kind


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC on every database; SQLite by itself would forget the time zone."""

    impl = SqlDateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
        }
    )


class ClipRow(Base):
    """A published video. Placeholders are no videos and have no rows."""

    __tablename__ = "clips"
    __table_args__ = (
        CheckConstraint("kind IN ('generated', 'animated-stills')", name="kind_is_video"),
        Index("ix_clips_fingerprint", "fingerprint"),
        Index("ix_clips_created_at", "created_at"),
        # Only what is being removed: empty but for moments, and read on every opening.
        Index(
            "ix_clips_removing",
            "removing",
            sqlite_where=text("removing = 1"),
            postgresql_where=text("removing"),
        ),
    )

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(String(32))
    tier: Mapped[str] = mapped_column(String(64))
    checkpoint: Mapped[str | None] = mapped_column(Text)
    engine: Mapped[str | None] = mapped_column(String(32))
    device: Mapped[str | None] = mapped_column(String(64))
    speed: Mapped[str | None] = mapped_column(String(32))
    synthetic: Mapped[bool]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    frames: Mapped[int | None] = mapped_column(Integer)
    fps: Mapped[float | None] = mapped_column(Float(53))
    width: Mapped[int | None] = mapped_column(Integer)
    height: Mapped[int | None] = mapped_column(Integer)
    duration_s: Mapped[float | None] = mapped_column(Float(53))
    elapsed_s: Mapped[float] = mapped_column(Float(53))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    """Like the other two, relative to the media root where inside it, else absolute."""
    poster: Mapped[str | None] = mapped_column(Text)
    manifest: Mapped[str | None] = mapped_column(Text)
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    text: Mapped[str | None] = mapped_column(Text)
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    removing: Mapped[bool] = mapped_column(default=False)
    """Its files are being deleted; see ``removal``. Such a row is no clip any more."""

    def files(self, root: Path) -> Files:
        """The row's files, absolute, below the media root as it is now."""
        named = Files(
            video=Path(self.path),
            poster=None if self.poster is None else Path(self.poster),
            manifest=None if self.manifest is None else Path(self.manifest),
        )
        return placed(named, root)

    def stored(self, root: Path) -> StoredClip:
        """The row as a value, independent of the database."""
        return StoredClip(
            id=self.id,
            created_at=self.created_at,
            kind=cast("Kind", self.kind),
            tier=self.tier,
            checkpoint=self.checkpoint,
            speed=self.speed,
            synthetic=self.synthetic,
            duration_s=self.duration_s,
            elapsed_s=self.elapsed_s,
            fingerprint=self.fingerprint,
            files=self.files(root),
            bytes=self.bytes,
            sha256=self.sha256,
            text=self.text,
            request=self.request,
            document=self.document,
        )


class BatchRow(Base):
    """A named set of jobs."""

    __tablename__ = "batches"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    manifest: Mapped[str | None] = mapped_column(Text)
    folder: Mapped[str] = mapped_column(Text)
    options: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What its first command was given that is part of what the clips are; see ``batch.asked``."""
    skipped: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The rows that its last command left out as bad; see ``batch.skipped``."""


class BatchRunRow(Base):
    """A run of a batch, noted while it lasts and at its end; see ``jobs.notes``."""

    __tablename__ = "batch_runs"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'ended', 'failed', 'lost')", name="state_is_known"),
        Index("ix_batch_runs_batch_id", "batch_id"),
        Index("ix_batch_runs_who", "who"),
    )

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    batch_id: Mapped[str] = mapped_column(String(26), ForeignKey("batches.id"))
    began_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """Of one that is running: when it was last noted."""
    figures: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(String(16), default="ended", server_default="ended")
    who: Mapped[str | None] = mapped_column(String(128))
    """The command, by the name of its sign of life; see ``batch.liveness``."""
    pause: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Why it begins no clip now."""


MAX_CODE = 64
"""Letters of a reason's code that are kept: one from a tier of the user's own may be longer."""


class JobRow(Base):
    """A clip that is wanted, and how far it has come; see ``jobs.store``."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="state_is_known"
        ),
        UniqueConstraint("batch_id", "key"),
        # The order in which jobs are claimed: the next one is found without sorting.
        Index(
            "ix_jobs_next",
            "batch_id",
            "state",
            "falling_priority",
            "grouping",
            "not_before",
            "position",
        ),
        Index("ix_jobs_lease_until", "lease_until"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    batch_id: Mapped[str] = mapped_column(String(26), ForeignKey("batches.id"))
    key: Mapped[str] = mapped_column(String(64))
    row: Mapped[int] = mapped_column(Integer)
    position: Mapped[int] = mapped_column(Integer)
    fields: Mapped[dict[str, Any]] = mapped_column(JSON)
    folder: Mapped[str | None] = mapped_column(Text)
    name: Mapped[str | None] = mapped_column(Text)
    falling_priority: Mapped[int] = mapped_column(Integer)
    """The priority with its sign turned, so that one index gives the whole order."""
    grouping: Mapped[str] = mapped_column(String(64))
    """Sorts like its group's first position in the manifest."""
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer)
    lost: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Of these, the tries whose worker ended unseen: they count by themselves."""
    not_before: Mapped[datetime] = mapped_column(UtcDateTime)
    worker: Mapped[str | None] = mapped_column(String(128))
    token: Mapped[str | None] = mapped_column(String(32))
    """Of the last claim; it outlives the lease until somebody else claims the job."""
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Null but for running jobs."""
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    clip_id: Mapped[str | None] = mapped_column(String(26))
    """No foreign key: a clip may be removed, and the job was done all the same."""
    path: Mapped[str | None] = mapped_column(Text)
    """The video, relative to the media root where inside it, else absolute."""
    cached: Mapped[bool]
    error_code: Mapped[str | None] = mapped_column(String(MAX_CODE))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_hint: Mapped[str | None] = mapped_column(Text)

    def stored(self, root: Path) -> Job:
        """The row as a value, independent of the database."""
        return Job(
            id=self.id,
            batch_id=self.batch_id,
            key=self.key,
            row=self.row,
            index=self.position,
            fields=self.fields,
            folder=self.folder,
            name=self.name,
            priority=-self.falling_priority,
            state=cast("State", self.state),
            attempt=self.attempt,
            lost=self.lost,
            not_before=self.not_before,
            worker=self.worker,
            started_at=self.started_at,
            finished_at=self.finished_at,
            clip_id=self.clip_id,
            path=None if self.path is None else root / self.path,
            cached=self.cached,
            reason=None
            if self.error_code is None
            else Reason(self.error_code, self.error_message or "", self.error_hint or ""),
        )
