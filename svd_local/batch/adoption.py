"""Adopting clips whose worker died between publishing the files and committing the row.

The record beside such a clip says which job it is for and under which token it was made. A file that
decodes to what the record says gets its row, and its job is done, in one transaction, as the dead
worker would have done it. Where the job is somebody else's by now, or was cancelled, or the file is not
whole, the files are taken back.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_local.batch.events import Event, JobDone
from svd_local.batch.summary import Tally
from svd_local.catalog import restored
from svd_local.catalog.jobs import Job, Lease
from svd_local.errors import LeaseLost, MediaFailed
from svd_local.generator import read_record
from svd_local.result import Clip, Files
from svd_local.storage import Orphan, orphans

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from svd_local.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Adopted:
    """A job that is done by what a dead worker left."""

    job: Job
    clip: Clip


def owner_of(lease: Lease) -> dict[str, Any]:
    """What a clip's record says of the job it is for."""
    return {"batch": lease.job.batch_id, "job": lease.job.id, "token": lease.token}


def adopt(
    catalog: Catalog, batch_id: str, folder: Path, lease: Lease | None = None
) -> Iterator[Adopted]:
    """Adopt the batch's orphans in ``folder``; what is other batches' or other programs' stays.

    ``lease`` is this worker's own, where it has taken the job over from the dead one.

    Raises:
        StorageFailed: the folder or the catalog cannot be used.
    """
    for orphan in orphans(folder):
        try:
            owner, document, request = read_record(orphan.record)
            job_id, token = int(owner["job"]), str(owner["token"])
            files = Files(orphan.files[".mp4"], orphan.files.get(".jpg"), orphan.files.get(".json"))
            ours = owner["batch"] == batch_id
            clip = restored(document, files)
        except (ValueError, KeyError, TypeError):
            continue
        if not ours:
            continue
        if catalog.at(clip.path) is not None:
            orphan.keep()  # it died a moment later: the row is there
            continue
        if not _whole(clip, orphan):
            orphan.discard()
            continue
        commit = functools.partial(_commit, catalog, job_id, token, lease, clip.path)
        try:
            name = catalog.add(clip, request, joined=commit)
        except LeaseLost:
            if catalog.at(clip.path) is None:
                orphan.discard()
            else:
                orphan.keep()  # the server was still at the dead one's commit when we looked
            continue
        orphan.keep()
        stored = catalog.get(name).to_clip()
        yield Adopted(catalog.jobs.job(job_id), stored)


def adopt_and_tell(
    catalog: Catalog,
    batch_id: str,
    folder: Path,
    tally: Tally,
    tell: Callable[[Event], None],
    lease: Lease | None = None,
) -> set[int]:
    """``adopt`` all, counted and told; answers the ids of the jobs that are done by it."""
    ids = set()
    for adopted in adopt(catalog, batch_id, folder, lease):
        ids.add(adopted.job.id)
        tally.done(adopted.clip, adopted=True)
        tell(JobDone(adopted.job, adopted.clip, adopted=True))
    return ids


def _commit(
    catalog: Catalog,
    job_id: int,
    token: str,
    lease: Lease | None,
    path: Path,
    session: Session,
    name: str,
) -> None:
    if lease is not None and lease.job.id == job_id:
        catalog.jobs.complete(session, lease, clip_id=name, path=path, cached=False)
    else:
        catalog.jobs.complete_for_dead(session, job_id, token, clip_id=name, path=path)


def _whole(clip: Clip, orphan: Orphan) -> bool:
    """Whether the file decodes to what its record says, and says itself that it is the clip."""
    from svd_local.media.probe import verify

    assert clip.frames is not None
    assert clip.width is not None
    assert clip.height is not None
    assert clip.fps is not None
    try:
        info = verify(
            clip.path,
            frames=clip.frames,
            size=(clip.width, clip.height),
            fps=clip.fps,
            beside=orphan.room / "decoded",
        )
        told = json.loads(info.comment)
        return isinstance(told, dict) and told.get("fingerprint") == clip.fingerprint
    except (MediaFailed, json.JSONDecodeError):
        return False
