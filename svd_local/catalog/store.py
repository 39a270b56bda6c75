"""Catalog: the clips that were published, by name, by fingerprint, and in figures.

The row is the commit point of a clip: files first, then ``add``. Were the database lost, the files
would still be whole, and each MP4 says in its comment how it was made.

Every method raises ``StorageFailed`` where the database is locked, read-only, damaged, out of reach
or made by a newer version.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from svd_local.catalog.database import Database
from svd_local.catalog.figures import FIGURED, figures, measured
from svd_local.catalog.identity import new_id
from svd_local.catalog.models import ClipRow, JobRow
from svd_local.catalog.removal import finish_removals, remove
from svd_local.catalog.stored import StoredClip, document_of, relative_to_root
from svd_local.errors import CommitUnknown, NotFound, StorageFailed
from svd_local.result import Clip

if TYPE_CHECKING:
    from svd_local.catalog.jobs.store import Jobs

_ASKING_S = 10.0
"""For how long the database is asked whether a commit was made whose answer was lost."""
_ASKING_PAUSE_S = 0.5

Joined = Callable[[Session, str], None]
"""Given the transaction's session and the clip's name; what it raises undoes the transaction."""


class Catalog:
    """The clips below one media root. Thread-safe; opened on first use.

    Reading never makes a database: where there is none, there are no clips.

    Args:
        url: SQLAlchemy's URL of the database; None is ``catalog.sqlite3`` in the media root.
        media_root: what paths are relative to, so that the folder may move with its catalog.
        patience_s: seconds to wait for another program's lock.

    Raises:
        StorageFailed: the URL names no database. No message holds its password.
    """

    def __init__(self, url: str | None, media_root: Path, *, patience_s: float = 15.0) -> None:
        self._root = media_root.absolute()
        self._database = Database(url, self._root, patience_s)
        self._looked_back = False

    def open(self) -> None:
        """Open or make the database now: what is wrong with it is told before any work is done."""
        self._ready()

    @property
    def folder_to_be(self) -> Path | None:
        """Where the database's file will be made; None where it is already, or is none."""
        return None if self._database.exists else Path(str(self._database.url.database)).parent

    @property
    def media_root(self) -> Path:
        """Absolute."""
        return self._root

    @property
    def jobs(self) -> Jobs:
        """The batches and their jobs, in the same database."""
        from svd_local.catalog.jobs.store import Jobs

        return Jobs(self._database, self._ready, self._root)

    def add(
        self,
        clip: Clip,
        request: Mapping[str, Any],
        *,
        created_at: datetime | None = None,
        joined: Joined | None = None,
    ) -> str:
        """Write the row of a published video and answer its name; from then on the clip exists.

        ``request`` is ``ClipRequest.describe``'s; ``created_at``, with a time zone, is now unless
        given. ``clip.fingerprint`` must be of what really ran: it is what ``find`` goes by.
        ``joined`` writes what must be committed together with the row, or not at all.

        Raises:
            ValueError: a placeholder, which is no video and has no row.
            CommitUnknown: the row may be there or not.
            StorageFailed: the file is gone, or the row could not be written; there is none then.
            Exception: whatever ``joined`` raises; there is no row then either.
        """
        if not clip.is_video:
            raise ValueError("a placeholder has no row in the catalog")
        moment = created_at or datetime.now(UTC)
        try:
            length, digest = clip.path.stat().st_size, _sha256(clip.path)
        except OSError as error:
            raise StorageFailed(
                f"{clip.path} cannot be read back: {error.strerror}",
                hint="Check the device the folder is on.",
            ) from error
        row = ClipRow(
            id=new_id(moment),
            created_at=moment,
            kind=clip.kind,
            tier=clip.tier,
            checkpoint=clip.checkpoint,
            engine=clip.engine,
            device=clip.device,
            speed=clip.speed,
            synthetic=clip.synthetic,
            seed=clip.seed,
            frames=clip.frames,
            fps=clip.fps,
            width=clip.width,
            height=clip.height,
            duration_s=clip.duration_s,
            elapsed_s=clip.elapsed_s,
            fingerprint=clip.fingerprint,
            path=self._written(clip.path),
            poster=self._written(clip.files.poster),
            manifest=self._written(clip.files.manifest),
            bytes=length,
            sha256=digest,
            text=request.get("title") or request.get("prompt"),
            request=dict(request),
            document=document_of(clip),
            removing=False,
        )
        name = row.id
        committing = False
        try:
            with self._ready().writing() as session:
                session.add(row)
                if joined is not None:
                    joined(session, name)
                session.flush()
                committing = True
        except StorageFailed as error:
            # A server whose answer was lost may have committed all the same: taking the files of a
            # row back would be worse than asking.
            there = committing and self._has(name)
            if there is None:
                raise CommitUnknown(
                    f"whether {clip.path.name} has its row is not known: {error.message}",
                    hint="Its files stay. Once the catalog answers again, the same batch finds out.",
                ) from error
            if not there:
                raise
        return name

    def _has(self, name: str) -> bool | None:
        """Whether the row is there; None where the database cannot be asked, for some seconds."""
        served = self._database.url.get_backend_name() == "postgresql"
        give_up = time.monotonic() + _ASKING_S
        while True:
            with suppress(StorageFailed):
                database = self._ready()
                with database.writing() if served else database.reading() as session:
                    if served:
                        # Our transaction may be under way there still; once this is granted none is.
                        session.execute(text("SET LOCAL lock_timeout = '5s'"))
                        session.execute(text("LOCK TABLE clips IN SHARE MODE"))
                    return session.get(ClipRow, name) is not None
            if time.monotonic() > give_up:
                return None
            time.sleep(_ASKING_PAUSE_S)

    def find(self, fingerprint: str) -> StoredClip | None:
        """The newest clip of ``fingerprint`` whose video is there, byte for byte; None without one.

        A row whose file is missing or altered is passed over and kept: it still says what was made,
        and ``rm`` removes it.
        """
        if not self._database.exists:
            return None
        query = select(ClipRow).where(ClipRow.fingerprint == fingerprint, ~ClipRow.removing)
        with self._ready().reading() as session:
            rows = session.scalars(query.order_by(ClipRow.id.desc())).all()
            clips = [row.stored(self._root) for row in rows]
        return next((clip for clip in clips if clip.present and _unaltered(clip)), None)

    def at(self, path: Path) -> StoredClip | None:
        """The newest clip whose video is ``path``; None without one."""
        if not self._database.exists:
            return None
        query = select(ClipRow).where(ClipRow.path == self._written(path), ~ClipRow.removing)
        with self._ready().reading() as session:
            row = session.scalars(query.order_by(ClipRow.id.desc()).limit(1)).first()
            return None if row is None else row.stored(self._root)

    def clips(
        self,
        *,
        limit: int | None = 50,
        tier: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
    ) -> list[StoredClip]:
        """The clips, newest first: at most ``limit``, of one tier or kind, made ``since`` a moment."""
        if not self._database.exists:
            return []
        query = select(ClipRow).where(~ClipRow.removing).order_by(ClipRow.id.desc()).limit(limit)
        if tier is not None:
            query = query.where(ClipRow.tier == tier)
        if kind is not None:
            query = query.where(ClipRow.kind == kind)
        if since is not None:
            query = query.where(ClipRow.created_at >= since)
        with self._ready().reading() as session:
            return [row.stored(self._root) for row in session.scalars(query)]

    def get(self, name: str) -> StoredClip:
        """The clip whose id is ``name``, or begins with it.

        Raises:
            NotFound: no clip, or more than one.
        """
        wanted = name.strip().lower()
        found: list[StoredClip] = []
        if wanted and self._database.exists:
            begins = ClipRow.id.startswith(wanted, autoescape=True)
            with self._ready().reading() as session:
                rows = session.scalars(select(ClipRow).where(begins, ~ClipRow.removing).limit(2))
                found = [row.stored(self._root) for row in rows]
        if len(found) != 1:
            raise NotFound(
                f"more than one clip begins with {name!r}" if found else f"no clip {name!r}",
                hint="Write more of it." if found else "svd-local catalog list shows the clips.",
            )
        return found[0]

    def named(self, names: Collection[str]) -> dict[str, StoredClip]:
        """The clips whose ids are ``names``, by id; those that were removed are missing."""
        if not names or not self._database.exists:
            return {}
        query = select(ClipRow).where(ClipRow.id.in_(names), ~ClipRow.removing)
        with self._ready().reading() as session:
            return {row.id: row.stored(self._root) for row in session.scalars(query)}

    def stats(self, batch_id: str | None = None) -> dict[str, Any]:
        """Counts, bytes, and a clip's own seconds (median, p95) by tier, checkpoint and speed; as JSON.

        Of all clips, or of those that the jobs of one batch came to, found or made.
        """
        if not self._database.exists:
            return figures(())
        query = FIGURED
        if batch_id is not None:
            of_batch = select(JobRow.clip_id).where(
                JobRow.batch_id == batch_id, JobRow.state == "done", JobRow.clip_id.is_not(None)
            )
            query = query.where(ClipRow.id.in_(of_batch))
        with self._ready().reading() as session:
            return figures(measured(session.execute(query)))

    def older_than(self, days: float) -> list[StoredClip]:
        """The clips made more than ``days`` days ago, oldest first."""
        if not self._database.exists:
            return []
        old = select(ClipRow).where(
            ClipRow.created_at < datetime.now(UTC) - timedelta(days=days), ~ClipRow.removing
        )
        with self._ready().reading() as session:
            rows = session.scalars(old.order_by(ClipRow.id))
            return [row.stored(self._root) for row in rows]

    def remove(self, clips: Iterable[StoredClip]) -> list[StoredClip]:
        """Remove clips, row, video, poster and manifest together; answer those that still were there.

        Raises:
            StorageFailed: a file cannot be deleted; see ``removal`` for what is left then.
        """
        ids = [clip.id for clip in clips]
        return remove(self._ready(), self._root, ids) if ids else []

    def close(self) -> None:
        """Give back the connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ready(self) -> Database:
        """The database, removals that were cut short finished once."""
        if not self._looked_back:
            finish_removals(self._database, self._root)
            self._looked_back = True
        return self._database

    def _written(self, path: Path | None) -> str | None:
        return None if path is None else relative_to_root(path, self._root)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unaltered(clip: StoredClip) -> bool:
    try:
        return _sha256(clip.path) == clip.sha256
    except OSError:
        return False
