"""The ground a batch stands on: its jobs in the catalog, its folders, and what the dead left in them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.batch.adoption import adopt_and_tell
from svd_local.batch.control import Control
from svd_local.batch.events import Event
from svd_local.batch.liveness import Presence
from svd_local.batch.options import BatchOptions
from svd_local.batch.plan import new_jobs, place_of
from svd_local.batch.spec import JobSpec
from svd_local.batch.summary import BatchSummary, Tally
from svd_local.catalog.jobs import Batch, Enrolment, Job, Lease
from svd_local.errors import InvalidRequest
from svd_local.settings import Settings
from svd_local.storage import check_writable, leftovers, storing, sweep

if TYPE_CHECKING:
    from svd_local.batch.logbook import Logbook
    from svd_local.catalog import Catalog
    from svd_local.catalog.jobs import Jobs

_DYING_S = 5.0
_LOOK_UP_S = 0.2
_HALF_BORN_S = 1.0
"""Age of a staging folder without any sign of its owner that is taken for a dead one's."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What everybody goes by who works on a batch for one command."""

    settings: Settings
    catalog: Catalog
    """Open."""
    presence: Presence
    """Its name is whose the claimed jobs are."""
    batch: Batch
    options: BatchOptions
    control: Control

    @property
    def jobs(self) -> Jobs:
        """The catalog's."""
        return self.catalog.jobs

    def adopt(
        self, folder: Path, tally: Tally, tell: Callable[[Event], None], lease: Lease | None = None
    ) -> set[int]:
        """Adopt what dead workers left in ``folder``, see ``adoption``; answers the ids of the jobs that
        are done by it.
        """
        return adopt_and_tell(self.catalog, self.batch.id, folder, tally, tell, lease)

    def bury(self, but: Collection[str] = ()) -> None:
        """Take the jobs of workers that died on this machine, all ``but`` those that somebody else sees
        to.
        """
        for name in self.presence.dead():
            if name not in but:
                self.jobs.release_dead(name)


def take(
    stack: ExitStack,
    settings: Settings,
    specs: Iterable[JobSpec],
    options: BatchOptions,
    control: Control,
) -> tuple[Ground, Enrolment]:
    """Open the catalog and show a sign of life, both to the end of ``stack``, and have the batch's jobs.

    Raises:
        InvalidRequest: the batch of that name has another output folder.
        StorageFailed: the folder or the catalog cannot be used.
    """
    from svd_local.catalog import Catalog

    catalog = stack.enter_context(Catalog(settings.database_url, settings.media_dir))
    catalog.open()
    presence = stack.enter_context(Presence(settings.media_dir))
    enrolment = enrol(catalog, specs, options)
    return Ground(settings, catalog, presence, enrolment.batch, options, control), enrolment


def enrol(catalog: Catalog, specs: Iterable[JobSpec], options: BatchOptions) -> Enrolment:
    """Make the batch's folder, and have its jobs in the catalog.

    Raises:
        InvalidRequest: the batch of that name has another output folder.
        StorageFailed: the folder or the catalog cannot be used.
    """
    check_writable(options.folder, field="folder")
    with storing(options.folder, "folder"):
        options.folder.mkdir(parents=True, exist_ok=True)
    return catalog.jobs.enroll(
        options.name,
        new_jobs(specs),
        folder=options.folder,
        manifest=options.manifest,
        options=options.asked,
        skipped=None if options.skipped is None else options.skipped.to_json(),
    )


def settled(catalog: Catalog, enrolment: Enrolment) -> Enrolment:
    """``enrolment`` as it is once the jobs of the dead were adopted or taken from them, and which rows
    have several jobs.
    """
    then, now = enrolment.batch, catalog.jobs.batch(enrolment.batch.id)
    dropped = now.counts.get("cancelled", 0) - then.counts.get("cancelled", 0)
    return dataclasses.replace(
        enrolment,
        batch=now,
        cancelled=enrolment.cancelled + dropped,
        leaving=max(0, enrolment.leaving - dropped),
        several=catalog.jobs.several(now.id),
    )


def concluded(
    ground: Ground,
    folders: Iterable[Path],
    summarise: Callable[[Batch, tuple[Job, ...]], BatchSummary],
    book: Logbook,
) -> BatchSummary:
    """The end of a run: sweep, have ``summarise`` say of the batch and its failures what the run came to,
    and note that for the report.
    """
    jobs, batch_id = ground.jobs, ground.batch.id
    sweep_last(folders, hurry=ground.control.stopping)
    failures = tuple(jobs.jobs(batch_id, state="failed", limit=None))
    summary = summarise(jobs.batch(batch_id), failures)
    book.ended(summary)
    return summary


def folders_of(catalog: Catalog, batch_id: str, folder: Path) -> list[Path]:
    """Every folder in which the batch's clips are made: ``folder``, the jobs', and what is between."""
    found = {folder.absolute()}
    for name in catalog.jobs.folders(batch_id):
        try:
            place = place_of(name, folder)
        except InvalidRequest:
            continue  # its job will say so
        while place not in found:
            found.add(place)
            place = place.parent
    return sorted(found)


def sweep_all(folders: Iterable[Path]) -> int:
    """Remove what dead workers left unfinished; answers how many leftovers there were."""
    return sum(len(sweep(folder, _HALF_BORN_S)) for folder in folders)


def sweep_last(folders: Iterable[Path], *, hurry: bool = False) -> None:
    """Sweep when nobody works any more, down to what died in the moment of its birth.

    What cannot be removed yet may be of somebody who is dying: a killed process holds its locks until the
    system has taken it apart, and its encoder writes on for a moment. So it is tried for some seconds; not
    as long in a ``hurry``, as where the batch was stopped and others may go on with it.
    """
    folders = list(folders)
    give_up = time.monotonic() + (_HALF_BORN_S + _LOOK_UP_S if hurry else _DYING_S)
    sweep_all(folders)
    while any(leftovers(folder) for folder in folders) and time.monotonic() < give_up:
        time.sleep(_LOOK_UP_S)
        sweep_all(folders)
