"""From a manifest's jobs to enrolled ones, and from an enrolled job to the request it stands for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from svd_local.batch.spec import JobSpec
from svd_local.catalog.jobs import Job, NewJob
from svd_local.errors import InvalidRequest
from svd_local.generator import draw_seed
from svd_local.request import ClipRequest
from svd_local.storage import check_stem

_RELOADED_FOR = ("tier", "checkpoint", "engine", "device", "speed", "size", "frames", "vram_budget")
"""Fields whose change makes the next clip load, compile or plan anew."""


def new_jobs(specs: Iterable[JobSpec]) -> Iterator[NewJob]:
    """The jobs to enrol: each with a seed, so that every try makes the same clip, and its group."""
    for spec in specs:
        fields = dict(spec.fields)
        if fields.get("seed") is None:
            fields["seed"] = draw_seed()
        group = {name: fields[name] for name in _RELOADED_FOR if fields.get(name) is not None}
        yield NewJob(
            key=spec.key,
            row=spec.row,
            index=spec.index,
            fields=fields,
            folder=spec.folder,
            name=spec.name,
            priority=spec.priority,
            group=json.dumps(group, sort_keys=True, default=str),
        )


def request_of(job: Job, folder: Path) -> ClipRequest:
    """The request ``job`` stands for, its files going to its place below ``folder``.

    Raises:
        InvalidRequest: its fields, its folder or its name mean nothing here.
    """
    fields = {**job.fields, "out": place_of(job.folder, folder)}
    if fields.get("tier") == "placeholder":
        raise InvalidRequest(
            "tier: a placeholder is no video",
            hint="Name another tier, or leave it out.",
            field="tier",
        )
    if job.name is not None:
        check_stem(job.name)
    return ClipRequest(**fields)


def place_of(name: str | None, folder: Path) -> Path:
    """The folder ``name`` below ``folder``; a link that leads out of it is not followed.

    Raises:
        InvalidRequest: it is not below it.
    """
    folder = folder.absolute()
    if name is None:
        return folder
    below = PurePosixPath(name)
    place = folder / below
    if below.is_absolute() or not place.resolve().is_relative_to(folder.resolve()):
        raise InvalidRequest(
            f"the folder {name[:80]!r} is not below {folder}",
            hint="Write a relative folder without .. in it.",
            field="folder",
        )
    return place
