"""One pass over the catalog: the batch as it is at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path

from svd_local.batch.report.entry import Entry, entry_of
from svd_local.batch.report.figures import Figures, Tally
from svd_local.batch.skipped import Skipped
from svd_local.batch.standing import Standing, as_seen, standing
from svd_local.catalog import Catalog
from svd_local.catalog.jobs import Batch, Job, Run

LISTED = 200
"""Jobs of one problem, and of one state without a video, that the page lists one by one; the table
has all of them."""
_AT_ONCE = 200

Progress = Callable[[int, int], None]
"""Called with how many of how many jobs were looked at."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch as it was ``written_at``. Its entries lie in ``spool``, and are there as long as it is."""

    batch: Batch
    written_at: datetime
    figures: Figures
    problems: tuple[Entry, ...]
    """Those somebody should look at, the first ``LISTED`` of each problem."""
    unmade: tuple[Entry, ...]
    """The running, queued and cancelled, the first ``LISTED`` of each."""
    spool: Path
    skipped: Skipped | None = None
    """The rows that its last command left out as bad."""
    runs: tuple[Run, ...] = ()
    """The commands that worked on it, the latest first, at most twenty."""

    def lines(self) -> Iterator[str]:
        """Every job in the manifest's order, each a line of JSON."""
        with self.spool.open(encoding="utf-8", errors="surrogatepass") as file:
            for line in file:
                yield line.rstrip("\n")

    def entries(self) -> Iterator[Entry]:
        """Every job in the manifest's order."""
        return map(Entry.parse, self.lines())


def gather(
    catalog: Catalog,
    batch: Batch,
    folder: Path,
    spool: Path,
    *,
    written_at: datetime,
    look: Callable[[Sequence[Entry]], Sequence[Entry]] | None = None,
    progress: Progress | None = None,
) -> BatchReport:
    """Read the jobs of ``batch`` once, in pages, and write them to ``spool`` as ``folder`` sees them.

    ``look`` may add to a page of entries what looking at their files shows, such as contact sheets.

    Raises:
        StorageFailed: the catalog cannot be read.
        OSError: the spool cannot be written.
    """
    tally = Tally()
    problems: dict[str, list[Entry]] = {}
    unmade: dict[str, list[Entry]] = {"running": [], "queued": [], "cancelled": []}
    total, done = sum(catalog.jobs.counts(batch.id).values()), 0
    # newline: a line ends where we end it, and nowhere else.
    seen = standing(catalog.jobs, catalog.jobs.batch(batch.id), catalog.media_root)
    with spool.open("w", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
        for page in _pages(catalog, batch, folder, seen):
            for entry in page if look is None else look(page):
                file.write(entry.line() + "\n")
                tally.add(entry)
                if entry.problem is not None:
                    _list(entry, problems.setdefault(entry.problem["code"], []))
                elif entry.state in unmade:
                    _list(entry, unmade[entry.state])
            done += len(page)
            if progress is not None:
                progress(done, max(done, total))
    skipped = Skipped.by(batch)
    return BatchReport(
        batch=batch,
        written_at=written_at,
        figures=tally.figures(0 if skipped is None else skipped.rows),
        problems=tuple(chain.from_iterable(problems.values())),
        unmade=tuple(chain.from_iterable(unmade.values())),
        spool=spool,
        skipped=skipped,
        runs=tuple(as_seen(catalog.jobs.runs(batch.id), catalog.media_root)),
    )


def _list(entry: Entry, listed: list[Entry]) -> None:
    if len(listed) < LISTED:
        listed.append(entry)


def _pages(catalog: Catalog, batch: Batch, folder: Path, seen: Standing) -> Iterator[list[Entry]]:
    jobs, last = catalog.jobs, None
    several = jobs.several(batch.id, cancelled=True)
    while page := jobs.jobs(batch.id, after=last, limit=_AT_ONCE):
        clips = catalog.named(_clip_ids(page))
        yield [
            entry_of(
                seen.told(job),
                clips.get(job.clip_id or ""),
                folder,
                several=job.row in several,
            )
            for job in page
        ]
        last = page[-1]


def _clip_ids(jobs: Sequence[Job]) -> set[str]:
    return {job.clip_id for job in jobs if job.clip_id is not None}
