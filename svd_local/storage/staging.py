"""Staging and publishing: how a clip's files become visible, all of them or none.

The steps of one clip, and what is left where the process dies after each:

1. ``.svd-<random>.part/`` is made beside the target and its ``lock`` file held: a leftover, to be
   swept once nobody holds the lock.
2. The files are written into it as ``clip.mp4``, ``clip.jpg``, ``clip.json``: the same.
3. Lengths are checked and every file is flushed to the device: the same.
4. The folder is renamed to ``.svd-<stem>.part/``. This reserves the stem: a folder cannot be
   renamed onto one that holds files, so of two processes with the same timestamp one takes the
   next millisecond. Only its holder may then make files of that stem: the same.
5. No file of that stem exists, so ``publishing`` is written into the reservation, naming what will
   be moved: the same.
6. Poster and manifest are moved out, and the folder is flushed: they are strays, recognised by a
   ``publishing`` whose last file is not there; swept with it.
7. The MP4 is moved out, and the folder is flushed: a complete clip, without a row if the catalog
   was not reached. Where a ``record`` was left for that case, ``orphans`` finds clip and record, and
   the reservation stays for it; else only the empty reservation is swept.
8. The reservation is renamed to a random name again and deleted: nothing, or an empty leftover.

Taking files back, the MP4 first, is as step 6 at every point.

Moving is ``rename`` within one file system; that it overwrites nothing follows from the reservation
and a look at the names, on any file system, also one without hard links. What dies is the process:
after a power failure the same holds as far as the device keeps its word about flushing.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from svd_local.errors import CommitUnknown, StorageFailed
from svd_local.storage.faults import FULL, failure, storing
from svd_local.storage.lock import Lock, locked_folder
from svd_local.storage.names import stems, wanted_stems

PART_PREFIX, PART_SUFFIX = ".svd-", ".part"
CLIP = "clip"
LOCK = "lock"
PUBLISHING = "publishing"
RECORD = "record"
SUFFIXES = (".mp4", ".jpg", ".json")
"""Of every file that may share a stem; a stem is free when none of them exists."""


class Staging:
    """A clip's files on their way into ``folder``; a context manager for one clip and one thread.

    Write to ``path(suffix)``, or through ``write``; then ``publish``. Leaving the block by an
    exception, also after publishing (as when the catalog refuses the row), removes everything of
    this clip's. Leaving it in peace keeps what was published.

    Raises:
        StorageFailed: on entering, publishing and writing, where the folder cannot be written.
        DiskFull: the same for want of room; also for an ``OSError`` of that kind from the block.
    """

    def __init__(self, folder: Path) -> None:
        self.target = folder.absolute()
        """Where the files will be."""
        self._part: Path | None = None
        self._lock: Lock | None = None
        self._lengths: dict[str, int] = {}
        self._published: list[Path] = []
        self._made: list[Path] = []
        """The folders that were not there before, deepest first."""

    def __enter__(self) -> Self:
        with storing(self.target):
            ways = (self.target, *self.target.parents)
            self._made = [folder for folder in ways if not folder.exists()]
            self.target.mkdir(parents=True, exist_ok=True)
            self._part, self._lock = locked_folder(
                self.target, LOCK, prefix=PART_PREFIX, suffix=PART_SUFFIX
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, CommitUnknown):
            self._leave()
            return
        try:
            if error is not None:
                with storing(self.target):
                    # The MP4 first: while it can be seen, what belongs to it must be there.
                    for path in reversed(self._published):
                        path.unlink(missing_ok=True)
        finally:
            self._release()
        if error is not None:
            self._unmake()
        if isinstance(error, OSError) and error.errno in FULL:
            raise failure(error, self.target) from error

    @property
    def folder(self) -> Path:
        """The hidden folder; any other file in it is scratch and goes with it."""
        if self._part is None:
            raise RuntimeError("a Staging is used within its with block")
        return self._part

    def path(self, suffix: str) -> Path:
        """Where to write the clip's file of ``suffix``: ``.mp4``, ``.jpg`` or ``.json``."""
        if suffix not in SUFFIXES:
            raise ValueError(f"{suffix!r} is none of {', '.join(SUFFIXES)}")
        return self.folder / f"{CLIP}{suffix}"

    def write(self, suffix: str, data: bytes) -> Path:
        """Write a whole file; ``publish`` checks that its length still is that of ``data``."""
        path = self.path(suffix)
        with storing(self.target):
            path.write_bytes(data)
        self._lengths[suffix] = len(data)
        return path

    def publish(
        self,
        prefix: str,
        suffixes: Sequence[str],
        *,
        lengths: Mapping[str, int] | None = None,
        at: datetime | None = None,
        stem: str | None = None,
        record: bytes | None = None,
    ) -> dict[str, Path]:
        """Make the files of ``suffixes`` visible, in that order, under one new name; once only.

        The last one is the file that stands for the clip: when it can be seen, all can. ``prefix``
        is ``file_prefix``'s; ``lengths`` gives bytes by suffix for files that were measured when
        they were checked; ``at``, with a time zone, is now unless given. ``stem`` is wanted instead
        of prefix and moment: it gets a number where it is taken. ``record`` is what ``orphans``
        will say of the clip if the process dies before leaving the block. Answers the final path
        by suffix.

        Raises:
            InvalidRequest: ``stem`` is no plain file name.
            StorageFailed: a file is missing, empty or of another length, or cannot be stored.
            DiskFull: there is no room.
        """
        sources = {suffix: self.path(suffix) for suffix in suffixes}
        expected = {**self._lengths, **(lengths or {})}
        with storing(self.target):
            for suffix, path in sources.items():
                _check_length(path, expected.get(suffix))
                _flush(path)
            if record is not None:
                (self.folder / RECORD).write_bytes(record)
            names = stems(prefix, at or datetime.now(UTC)) if stem is None else wanted_stems(stem)
            name = self._reserve(names)
            targets = {suffix: self.target / f"{name}{suffix}" for suffix in sources}
            plan = "\n".join(target.name for target in targets.values())
            (self.folder / PUBLISHING).write_text(plan, encoding="utf-8")
            for suffix in sources:
                if suffix == suffixes[-1] and len(suffixes) > 1:
                    flush_folder(self.target)
                self._published.append(targets[suffix])
                self.path(suffix).rename(targets[suffix])
            flush_folder(self.target)
        return targets

    def _reserve(self, names: Iterator[str]) -> str:
        """Take the first of ``names`` that is free; this folder's name then says whose it is."""
        for stem in names:
            reservation = self.target / f"{PART_PREFIX}{stem}{PART_SUFFIX}"
            try:
                self.folder.rename(reservation)
            except OSError as error:
                if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
                    continue
                raise
            self._part = reservation
            if not any((self.target / f"{stem}{suffix}").exists() for suffix in SUFFIXES):
                return stem
        raise AssertionError("stems never end")

    def _release(self) -> None:
        """Give the stem back and delete the folder.

        Renamed first: a reservation that is being emptied could be taken over by another process,
        whose files would then be deleted with ours.
        """
        part, self._part = self.folder, None
        away = part.with_name(f"{PART_PREFIX}{os.urandom(8).hex()}{PART_SUFFIX}")
        try:
            part.rename(away)
        except OSError:
            away = part
        shutil.rmtree(away, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()

    def _leave(self) -> None:
        """Leave all as it is, as if the process had died: whoever adopts orphans finds out what it is."""
        self._part = None
        if self._lock is not None:
            self._lock.release()

    def _unmake(self) -> None:
        """Remove the folders this staging made, as far as nobody else uses them by now."""
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    handle = os.open(path, flags)
    try:
        yield handle
    finally:
        os.close(handle)


def _check_length(path: Path, expected: int | None) -> None:
    if not path.is_file():
        raise StorageFailed(
            f"{path.name} was never written into {path.parent}",
            hint="This is a defect of svd_local; please report it.",
        )
    length = path.stat().st_size
    if length == 0 or expected not in (None, length):
        raise StorageFailed(
            f"{path.name} in {path.parent.parent} has {length} bytes"
            + (f" instead of {expected}" if expected else ""),
            hint="Check the device the folder is on, and its free space.",
        )


def _flush(path: Path) -> None:
    with _opened(path, os.O_RDWR) as handle:
        os.fsync(handle)


def flush_folder(folder: Path) -> None:
    """Bring the folder's entries to the device, where the system can."""
    if os.name != "posix":
        return  # Windows opens no folders; its file systems log renames by themselves
    with _opened(folder, os.O_RDONLY) as handle:
        try:
            os.fsync(handle)
        except OSError as error:
            # Some network and FUSE file systems flush no folders; the files are safe already.
            if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}:
                raise
