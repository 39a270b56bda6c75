"""The report's files, in the batch's output folder: made beside their place, then moved over the old."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from svd_local.batch.report.figures import Figures
from svd_local.batch.report.gather import Progress, gather
from svd_local.batch.report.page import write_pages
from svd_local.batch.report.sheets import Sheets
from svd_local.batch.report.tables import is_of, write_csv, write_json
from svd_local.catalog import Catalog
from svd_local.catalog.jobs import Batch
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

    def to_json(self) -> dict[str, Any]:
        return {
            "html": str(self.html),
            "pages": [str(path) for path in self.pages],
            "csv": str(self.csv),
            "json": str(self.json),
            "figures": self.figures.to_json(),
        }


def write_report(
    catalog: Catalog,
    batch: Batch,
    folder: Path | None = None,
    *,
    sheets: bool = True,
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
        progress: called with how many of how many jobs were looked at. An exception it raises ends
            the report, and the one before it stays.
        now: the moment the report is of, with a time zone.

    Raises:
        StorageFailed: the catalog cannot be read, or the folder cannot be written.
        DiskFull: there is no room.
    """
    folder = (Path(batch.folder) if folder is None else folder).absolute()
    with Staging(folder) as staging, storing(folder):
        scratch = staging.folder
        stem = _stem(batch, folder)
        pictures = Sheets(folder / f"{stem}_files", folder, scratch) if sheets else None
        with pictures or nullcontext():
            report = gather(
                catalog,
                batch,
                folder,
                scratch / "entries.jsonl",
                written_at=now or datetime.now(UTC),
                look=None if pictures is None else pictures.add,
                progress=progress,
            )
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
    return ReportFiles(pages[0], tuple(pages), csv, json, report.figures)


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
