"""Removing clips: row and files together.

1. The rows are marked and that is committed: from here on they are no clips any more. A process that
   dies before has changed nothing.
2. Their files are deleted, the MP4 first. A process that dies here leaves marked rows, which still
   say what is to be deleted; the next one to open the catalog finishes the work.
3. The rows are deleted and that is committed.

Where an MP4 cannot be deleted nothing of its clip is lost: its mark is taken back. Where only its
poster or manifest cannot, the mark stays and the next opening tries again. A file that another row
names too stays for that row; other hard links to it stay in any case.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from svd_local.catalog.database import Database
from svd_local.catalog.models import ClipRow
from svd_local.catalog.stored import StoredClip
from svd_local.errors import StorageFailed

_AT_ONCE = 500
"""Rows a transaction; a statement may hold no more than some thousand parameters."""


def remove(database: Database, root: Path, ids: Sequence[str]) -> list[StoredClip]:
    """Remove the clips ``ids`` and answer what they were, oldest first; others are passed over.

    Raises:
        StorageFailed: a file could not be deleted. Clips it does not concern may be removed.
    """
    removed: list[StoredClip] = []
    for some in _portions(ids):
        with database.writing() as session:
            session.execute(update(ClipRow).where(ClipRow.id.in_(some)).values(removing=True))
        removed += _finish(database, root, some)
    return removed


def finish_removals(database: Database, root: Path) -> None:
    """Finish what a process that died, or a file that could not be deleted, left undone.

    Raises:
        StorageFailed: the catalog cannot be read. Whoever may read, but delete neither rows nor
            files, leaves them to somebody who may.
    """
    with database.reading() as session:
        marked = session.scalars(select(ClipRow.id).where(ClipRow.removing)).all()
    with contextlib.suppress(StorageFailed):
        for some in _portions(marked):
            _finish(database, root, some)


def _finish(database: Database, root: Path, ids: Sequence[str]) -> list[StoredClip]:
    """Steps 2 and 3 for marked rows."""
    with database.reading() as session:
        marked = select(ClipRow).where(ClipRow.id.in_(ids), ClipRow.removing)
        rows = session.scalars(marked.order_by(ClipRow.id)).all()
        clips = [row.stored(root) for row in rows]
        kept = _named_by_others(session, root, rows)
    gone: list[StoredClip] = []
    untouched: list[str] = []
    failure: OSError | None = None
    for clip in clips:
        begun = False
        try:
            for path in (clip.path, clip.files.poster, clip.files.manifest):
                if path is not None and path not in kept:
                    path.unlink(missing_ok=True)
                begun = True
            gone.append(clip)
        except OSError as error:
            failure = failure or error
            if not begun:
                untouched.append(clip.id)
    with database.writing() as session:
        session.execute(delete(ClipRow).where(ClipRow.id.in_([clip.id for clip in gone])))
        session.execute(update(ClipRow).where(ClipRow.id.in_(untouched)).values(removing=False))
    if failure is not None:
        raise StorageFailed(
            f"{failure.filename} cannot be deleted: {failure.strerror}",
            hint="Make it deletable for this user and remove the clip again.",
        ) from failure
    return gone


def _named_by_others(session: Session, root: Path, rows: Iterable[ClipRow]) -> set[Path]:
    """The files, of those that ``rows`` name, that a row which stays names too."""
    names = {name for row in rows for name in (row.path, row.poster, row.manifest) if name}
    columns = (ClipRow.path, ClipRow.poster, ClipRow.manifest)
    others = session.execute(
        select(*columns).where(~ClipRow.removing, or_(*(column.in_(names) for column in columns)))
    )
    return {root / name for row in others for name in row if name is not None}


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
