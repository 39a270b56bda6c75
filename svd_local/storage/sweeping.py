"""Clearing away what processes that died have left."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from svd_local.storage.faults import storing
from svd_local.storage.lock import Lock
from svd_local.storage.names import parse_stem
from svd_local.storage.staging import CLIP, LOCK, PART_PREFIX, PART_SUFFIX, PUBLISHING, SUFFIXES

_CERTAINLY_DEAD_S = 7 * 24 * 3600.0
"""Age of a leftover that is taken for dead where the file system has no locks to ask."""


def sweep(folder: Path, older_than_s: float = 60.0) -> list[Path]:
    """Remove the leftovers of dead processes in ``folder``; answer what was removed.

    A leftover is a staging folder whose lock nobody holds, and the poster and manifest it had
    published before its MP4. A living process's staging is never touched, however old. One changed
    less than ``older_than_s`` seconds ago is left alone: its owner may not have locked it yet.
    Complete clips are never touched. A folder that does not exist is clean.

    Raises:
        StorageFailed: the folder cannot be read.
    """
    removed: list[Path] = []
    with storing(folder):
        if not folder.is_dir():
            return removed
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_part(entry)]
    for name in sorted(names):
        removed += _sweep_one(folder / name, older_than_s)
    return removed


def _is_part(entry: os.DirEntry[str]) -> bool:
    return (
        entry.name.startswith(PART_PREFIX)
        and entry.name.endswith(PART_SUFFIX)
        and entry.is_dir(follow_symlinks=False)
    )


def _sweep_one(part: Path, older_than_s: float) -> list[Path]:
    try:
        age = time.time() - part.stat().st_mtime
        if age < older_than_s:
            return []
        lock = Lock(part / LOCK)
    except OSError:
        return []  # its owner lives or has just finished, or it is not ours to remove
    try:
        if not lock.certain and age < _CERTAINLY_DEAD_S:
            return []
        with storing(part.parent):
            return _clear(part)
    finally:
        lock.release()


def _clear(part: Path) -> list[Path]:
    """Delete a dead staging folder, whose lock is held by us, and its strays."""
    removed = []
    for stray in _strays(part):
        stray.unlink()
        removed.append(stray)
    shutil.rmtree(part, ignore_errors=True)
    if not part.exists():
        removed.append(part)
    return removed


def _strays(part: Path) -> list[Path]:
    """What was moved out of ``part`` before the file that stands for the clip, which was not.

    Only a folder that holds a stem and says what it was publishing has any: one that was still
    looking for a free stem may be named after another clip's.
    """
    stem = part.name.removeprefix(PART_PREFIX).removesuffix(PART_SUFFIX)
    plan = part / PUBLISHING
    if parse_stem(stem) is None or not plan.is_file():
        return []
    *before, last = plan.read_text().split("\n")
    if not (part / f"{CLIP}{last}").exists():
        return []
    moved = (part.parent / f"{stem}{suffix}" for suffix in before if suffix in SUFFIXES)
    return [path for path in moved if path.exists()]
