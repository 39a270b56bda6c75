"""The report's files, in the batch's output folder: made beside their place, then moved over the old."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from svd_local.batch.report.figures import Figures
from svd_local.batch.report.gather import Progress, gather
from svd_local.batch.report.page import page_names, write_pages
from svd_local.batch.report.room import A_JOB, A_PAGE, Room
from svd_local.batch.report.sheets import Sheets
from svd_local.batch.report.tables import is_of, write_csv, write_json
from svd_local.catalog import Catalog
from svd_local.catalog.jobs import Batch
from svd_local.errors import DiskFull
from svd_local.storage import Staging, replace_files
from svd_local.storage.faults import storing

_STEM = "report"


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where the report is, absolute, and what it says in numbers."""

    html: Path
    """The first page; ``pages`` are all of them."""
    pages: tuple[Path, ...]
    csv: Path
    json: Path
    figures: Figures
    without_sheets: int = 0
    """Videos for whose contact sheets there was no room; ``short`` says why."""
    short: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "html": str(self.html),
            "pages": [str(path) for path in self.pages],
            "csv": str(self.csv),
            "json": str(self.json),
            "figures": self.figures.to_json(),
            "without_sheets": self.without_sheets,
            "short": self.short,
        }


def write_report(
    catalog: Catalog,
    batch: Batch,
    folder: Path | None = None,
    *,
    sheets: bool = True,
    reserve: int = 0,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> ReportFiles:
    """Write ``report.html``, ``report.csv`` and ``report.json`` of the batch as it is now.

    A report that is there is replaced, page by page, each whole at every moment. Where one of
    another batch is, or a clip of that name, the files are called after this batch. A batch that is
    still running may be reported too.

    Args:
        catalog: the batch's.
        batch: which one.
        folder: where to; the batch's output folder where None.
        sheets: whether contact sheets and thumbnails are made, in a folder beside the report; those
            of an earlier report are used again. Without them the posters are shown.
        reserve: bytes that are to stay free on the folder's device. Sheets that would take of them are
            left out; pages may take one half.
        progress: called with how many of how many jobs were looked at. An exception it raises ends
            the report, and the one before it stays.
        now: the moment the report is of, with a time zone.

    Raises:
        StorageFailed: the catalog cannot be read, or the folder cannot be written.
        DiskFull: there is no room, or only in the reserve's other half; an earlier report is as it was.
    """
    room = Room((Path(batch.folder) if folder is None else folder).absolute(), reserve)
    write = functools.partial(_write, catalog, batch, room, progress, now or datetime.now(UTC))
    if not sheets:
        return write(None)
    jobs = sum(catalog.jobs.counts(batch.id).values())
    ahead = jobs * A_JOB + A_PAGE
    try:
        return write(lambda: room.shortage(ahead))
    except DiskFull as error:
        short = error.message
    # The sheets that were made are gone again, and may have been what was too much.
    return write(lambda: short)


def _write(
    catalog: Catalog,
    batch: Batch,
    room: Room,
    progress: Progress | None,
    now: datetime,
    room_for_sheets: Callable[[], str | None] | None,
) -> ReportFiles:
    """``write_report``, for a try; without any sheets where ``room_for_sheets`` is None."""
    folder = room.folder

    def told(done: int, total: int) -> None:
        room.require()
        if progress is not None:
            progress(done, total)

    with storing(folder):
        room.require()
    with ExitStack() as stack:
        staging = stack.enter_context(Staging(folder))
        stack.enter_context(storing(folder))
        scratch = staging.folder
        stem = _stem(batch, folder)
        pictures = None
        if room_for_sheets is not None:
            pictures = stack.enter_context(
                Sheets(folder / f"{stem}_files", folder, scratch, room_for_sheets)
            )
            stack.enter_context(
                storing(folder)
            )  # again: they take back what they made where it is full
        report = gather(
            catalog,
            batch,
            folder,
            scratch / "entries.jsonl",
            written_at=now,
            look=None if pictures is None else pictures.add,
            progress=told,
        )
        # What is still to be written has all that lies in the scratch file three times at most.
        pages_to_come = len(page_names(stem, report.figures.videos))
        room.require(3 * report.spool.stat().st_size + pages_to_come * A_PAGE)
        tables = [scratch / f"{stem}.json", scratch / f"{stem}.csv"]
        write_json(report, tables[0])
        write_csv(report, tables[1])
        names = write_pages(report, stem, scratch)
        # The document first, by which an unfinished report is known to be this batch's; the first
        # page last, so that what it links to is there.
        moved = replace_files([*tables, *(scratch / name for name in reversed(names))], folder)
    _drop_old_pages(stem, names, folder)
    if pictures is not None:
        pictures.drop_the_rest()
    json, csv, *pages = moved
    pages.reverse()
    return ReportFiles(
        pages[0],
        tuple(pages),
        csv,
        json,
        report.figures,
        0 if pictures is None else pictures.without,
        None if pictures is None else pictures.short,
    )


def _stem(batch: Batch, folder: Path) -> str:
    """A name of which the folder holds nothing, or this batch's own report."""
    for stem in _stems(batch):
        if is_of(folder / f"{stem}.json", batch.id):
            return stem
        if not any(
            (folder / f"{stem}{end}").exists() for end in (".html", ".csv", ".json", ".mp4")
        ):
            return stem
    raise AssertionError("stems never end")


def _stems(batch: Batch) -> Iterator[str]:
    yield _STEM
    plain = re.sub(r"[^A-Za-z0-9]+", "-", batch.name).strip("-").lower()[:60]
    yield from (f"{_STEM}_{name}" for name in (plain, batch.id) if name)
    number = 2
    while True:
        yield f"{_STEM}_{batch.id}_{number}"
        number += 1


def _drop_old_pages(stem: str, names: list[str], folder: Path) -> None:
    """Remove pages of an earlier, longer report."""
    page = re.compile(rf"{re.escape(stem)}-\d+\.html")
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if page.fullmatch(path.name) and path.name not in names:
                path.unlink()
