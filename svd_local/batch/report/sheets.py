"""The pictures of the page: a contact sheet and a thumbnail of every video, made once each."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from svd_local.batch.report.entry import Entry, relative
from svd_local.errors import MediaFailed

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
    """

    def __init__(self, folder: Path, report: Path, scratch: Path) -> None:
        self._folder = folder
        self._report = report
        self._scratch = scratch
        self._used: set[str] = set()
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

    def add(self, entries: Sequence[Entry]) -> list[Entry]:
        """``entries``, those of videos with their pictures, or with what is wrong with the video.

        Raises:
            StorageFailed: a picture cannot be stored.
        """
        return list(self._pool.map(self._add, entries))

    def drop_the_rest(self) -> None:
        """Remove pictures that an earlier report made and this one does not show."""
        with suppress(OSError):
            for path in list(self._folder.iterdir()):
                if _OURS.fullmatch(path.name) and path.name not in self._used:
                    path.unlink()

    def _add(self, entry: Entry) -> Entry:
        from svd_local.media.files import storage_error
        from svd_local.media.sheet import write_sheet

        named = entry.files.get("video")
        if not entry.video or named is None:
            return entry
        video = self._report / named
        sheet, thumbnail = (self._folder / name for name in _names(video))
        if not (sheet.is_file() and thumbnail.is_file()):
            scratch = [self._scratch / f"{entry.index}-{path.name}" for path in (sheet, thumbnail)]
            try:
                write_sheet(video, scratch[0], thumbnail=scratch[1], frames=entry.frames)
            except MediaFailed as error:
                return entry.unreadable(error.message)
            try:
                self._folder.mkdir(exist_ok=True)
                for made, path in zip(scratch, (sheet, thumbnail), strict=True):
                    made.replace(path)
            except OSError as error:
                raise storage_error(error, sheet) from error
        self._used |= {sheet.name, thumbnail.name}
        return entry.with_sheet(relative(sheet, self._report), relative(thumbnail, self._report))


def _names(video: Path) -> tuple[str, str]:
    found = video.stat()
    told = os.fsencode(video.name) + f"|{found.st_size}|{found.st_mtime_ns}".encode()
    digest = hashlib.sha256(told).hexdigest()[:24]
    return f"{digest}-sheet.jpg", f"{digest}-thumbnail.jpg"
