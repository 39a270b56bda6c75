"""Clearing away what processes that died have left, and finding what they had all but finished."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from svd_local.storage.faults import storing
from svd_local.storage.lock import Lock
from svd_local.storage.staging import LOCK, PART_PREFIX, PART_SUFFIX, PUBLISHING, RECORD, SUFFIXES

_CERTAINLY_DEAD_S = 7 * 24 * 3600.0
"""Age of a leftover that is taken for dead where the file system has no locks to ask, and after which
nobody is expected to come for an orphan's record any more."""


def sweep(folder: Path, older_than_s: float = 60.0) -> list[Path]:
    """Remove the leftovers of dead processes in ``folder``; answer what was removed.

    A leftover is a staging folder whose lock nobody holds, and the poster and manifest it had
    published before its MP4. A living process's staging is never touched, however old. One without
    a sign that it ever was locked, and changed less than ``older_than_s`` seconds ago, is left alone:
    its owner may be about to. Complete clips are never touched, nor the record of one that waits to
    be adopted (see ``orphans``). A folder that does not exist is clean.

    Raises:
        StorageFailed: the folder cannot be read.
    """
    removed: list[Path] = []
    for part in _parts(folder):
        with _dead(part, older_than_s) as age:
            if age is not None and (age > _CERTAINLY_DEAD_S or _record(part) is None):
                removed += _clear(part)
    return removed


def leftovers(folder: Path) -> list[Path]:
    """What ``sweep`` would remove from ``folder``, were all of its owners dead.

    Raises:
        StorageFailed: the folder cannot be read.
    """
    with storing(folder):
        return [part for part in _parts(folder) if _record(part) is None]


@dataclass
class Orphan:
    """A complete clip whose owner died before its row was written, held by this process.

    ``keep`` it once it has its row, ``discard`` it where it must not be; without either it stays as it
    is, for somebody else.
    """

    files: dict[str, Path]
    """The published files by suffix."""
    record: bytes
    """What its owner left for this case."""
    room: Path
    """A folder for scratch files, which goes with the record."""
    _over: bool = field(default=False, init=False)

    def keep(self) -> None:
        """The files are somebody's now: only the record goes."""
        self._over = True

    def discard(self) -> None:
        """Take the files back, as their owner would have.

        Raises:
            StorageFailed: one cannot be deleted.
        """
        with storing(self.room.parent):
            for path in reversed(self.files.values()):
                path.unlink(missing_ok=True)
        self._over = True


def orphans(folder: Path) -> Iterator[Orphan]:
    """The orphans in ``folder``, one at a time; each is this process's alone until the next is asked for.

    Raises:
        StorageFailed: the folder cannot be read.
    """
    for part in _parts(folder):
        with _dead(part, math.inf) as age:  # one that was never held has nothing to tell
            record = None if age is None else _record(part)
            if record is None:
                continue
            orphan = Orphan({path.suffix: path for path in _planned(part)}, record, part)
            yield orphan
            if orphan._over:
                shutil.rmtree(part, ignore_errors=True)


def _parts(folder: Path) -> list[Path]:
    with storing(folder):
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if _is_part(entry))


def _is_part(entry: os.DirEntry[str]) -> bool:
    return (
        entry.name.startswith(PART_PREFIX)
        and entry.name.endswith(PART_SUFFIX)
        and entry.is_dir(follow_symlinks=False)
    )


@contextmanager
def _dead(part: Path, older_than_s: float) -> Iterator[float | None]:
    """Holds ``part`` where its owner is dead, and gives its age in seconds; None where it may live."""
    lock = None
    try:
        age = time.time() - part.stat().st_mtime
        # What lies beside the lock was written by who held it: if nobody does now, he is dead.
        was_held = {LOCK} < {path.name for path in part.iterdir()}
        if was_held or age >= older_than_s:
            lock = Lock(part / LOCK)
    except OSError:
        pass  # its owner lives or has just finished, or it is not ours to remove
    try:
        certain = lock is not None and (lock.certain or age > _CERTAINLY_DEAD_S)
        yield age if certain else None
    finally:
        if lock is not None:
            lock.release()


def _clear(part: Path) -> list[Path]:
    """Delete a dead staging folder, whose lock is held by us, and its strays."""
    with storing(part.parent):
        removed = _strays(part)
        for stray in removed:
            stray.unlink()
        shutil.rmtree(part, ignore_errors=True)
    if not part.exists():
        removed.append(part)
    return removed


def _strays(part: Path) -> list[Path]:
    """What was moved out of ``part`` and stands there without the file that stands for the clip.

    Only a folder that says what it was publishing has any: one that was still looking for a free
    stem may be named after another clip's.
    """
    planned = _planned(part)
    if not planned or planned[-1].exists():
        return []
    return [path for path in planned if path.exists()]


def _record(part: Path) -> bytes | None:
    """What ``part`` says of a clip that is complete, if it says anything."""
    planned, record = _planned(part), part / RECORD
    complete = bool(planned) and all(path.is_file() for path in planned)
    return record.read_bytes() if complete and record.is_file() else None


def _planned(part: Path) -> list[Path]:
    """The files that ``part`` was publishing, the last one standing for the clip."""
    plan = part / PUBLISHING
    if not plan.is_file():
        return []
    paths = [part.parent / Path(name).name for name in plan.read_text("utf-8").split("\n")]
    return paths if all(path.suffix in SUFFIXES for path in paths) else []
