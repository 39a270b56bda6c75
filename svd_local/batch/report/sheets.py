"""The pictures of the page: a contact sheet and a thumbnail of every video, made once each."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from svd_local.batch.report.entry import Entry, relative
from svd_local.errors import DiskFull, MediaFailed

_OURS = re.compile(r"[0-9a-f]{24}-(sheet|thumbnail)\.jpg")
_AT_ONCE = min(4, os.cpu_count() or 1)


class Sheets:
    """Makes what is not in ``folder`` yet; a context manager.

    A picture is named by its video's place, length and time, so that the next report finds it, and
    one of a clip that was made anew is made anew.

    Args:
        folder: where the pictures go, beside the report; made when there is one.
        report: the report's folder, which the entries' files are relative to.
        scratch: a folder of the same file system, for pictures in the making.
        room: whether there is room for more pictures: a reason why there is not, or None. Once there
            is one no more are made; those that are there are shown all the same.

    Attributes:
        short: the reason why some videos are without, where there is one.
        without: how many are.
    """

    def __init__(
        self, folder: Path, report: Path, scratch: Path, room: Callable[[], str | None]
    ) -> None:
        self._folder = folder
        self._report = report
        self._scratch = scratch
        self._room = room
        self._used: set[str] = set()
        self._made: list[Path] = []
        self.short: str | None = None
        self.without = 0
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="contact-sheet")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if isinstance(error, DiskFull):  # what they take may be what the report lacks
            for path in self._made:
                path.unlink(missing_ok=True)

    def add(self, entries: Sequence[Entry]) -> list[Entry]:
        """``entries``, those of videos with their pictures, or with what is wrong with the video.

        Raises:
            StorageFailed: a picture cannot be stored.
        """
        added = list(self._pool.map(self._add, entries))
        if self.short is not None:
            self.without += sum(entry.video and not entry.looked_into for entry in added)
        return added

    def drop_the_rest(self) -> None:
        """Remove pictures that an earlier report made and this one does not show."""
        with suppress(OSError):
            for path in list(self._folder.iterdir()):
                if _OURS.fullmatch(path.name) and path.name not in self._used:
                    path.unlink()

    def _add(self, entry: Entry) -> Entry:
        named = entry.files.get("video")
        if not entry.video or named is None:
            return entry
        video = self._report / named
        sheet, thumbnail = (self._folder / name for name in _names(video))
        if not (sheet.is_file() and thumbnail.is_file()):
            self.short = self.short or self._room()
            if self.short is not None:
                return entry
            try:
                self._make(entry, video, (sheet, thumbnail))
            except MediaFailed as error:
                return entry.unreadable(error.message)
            except DiskFull as error:
                self.short = error.message
                return entry
        self._used |= {sheet.name, thumbnail.name}
        return entry.with_sheet(relative(sheet, self._report), relative(thumbnail, self._report))

    def _make(self, entry: Entry, video: Path, targets: tuple[Path, Path]) -> None:
        from svd_local.media.files import storage_error
        from svd_local.media.sheet import write_sheet

        sheet, thumbnail = (self._scratch / f"{entry.index}-{path.name}" for path in targets)
        write_sheet(video, sheet, thumbnail=thumbnail, frames=entry.frames)
        try:
            self._folder.mkdir(exist_ok=True)
            for made, path in zip((sheet, thumbnail), targets, strict=True):
                self._made.append(path)
                made.replace(path)
        except OSError as error:
            raise storage_error(error, targets[0]) from error


def _names(video: Path) -> tuple[str, str]:
    found = video.stat()
    told = os.fsencode(video.name) + f"|{found.st_size}|{found.st_mtime_ns}".encode()
    digest = hashlib.sha256(told).hexdigest()[:24]
    return f"{digest}-sheet.jpg", f"{digest}-thumbnail.jpg"
