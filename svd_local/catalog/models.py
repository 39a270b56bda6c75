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
    Index,
    Integer,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

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
