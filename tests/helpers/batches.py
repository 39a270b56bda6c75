"""Batches of the fake tier, and what must be true of one that has come to its end."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from svd_local.batch.options import BatchOptions
from svd_local.batch.spec import JobSpec
from svd_local.catalog import Catalog
from svd_local.media.probe import probe
from svd_local.settings import Settings

FRAMES = 14


def spec(number: int, **values: Any) -> JobSpec:
    """A job of the fake tier, small and quick; ``fields`` are added to its own."""
    fields = {
        "prompt": f"lesson {number}",
        "tier": "fake",
        "seed": 100 + number,
        "steps": 2,
        "size": "128x64",
        "frames": FRAMES,
        "quality": "fast",
    }
    usual: dict[str, Any] = {
        "row": number + 2,
        "index": number,
        "key": hashlib.sha256(str(number).encode()).hexdigest(),
        "folder": None if number % 2 == 0 else "odd ones/deep",
        "name": f"lesson {number}",
    }
    return JobSpec(**{**usual, **values, "fields": {**fields, **values.get("fields", {})}})


def options(root: Path, **values: Any) -> BatchOptions:
    """Of the batch ``night`` below ``root``, without patience."""
    usual: dict[str, Any] = {"poll_s": 0.05, "backoff_s": 0.0, "tries": 3}
    return BatchOptions(**{"name": "night", "folder": root / "out", **usual, **values})


def settings(root: Path, database_url: str | None = None, **values: Any) -> Settings:
    """A machine below ``root``, whose disk is never too full."""
    usual: dict[str, Any] = {"enable_fake_tier": True, "disk_reserve": 0}
    return Settings.load(media_dir=root / "media", database_url=database_url, **{**usual, **values})


def faults(root: Path, specs: Iterable[JobSpec], database_url: str | None = None) -> list[str]:
    """What is wrong with a batch that should be done: nothing, if all is well.

    Every job done once, each by a row and a file of its own under the wanted name; each file decodes;
    no other row, no other file, nothing temporary, no worker's mark.
    """
    wanted = list(specs)
    wrong: list[str] = []
    with Catalog(database_url, root / "media") as catalog:
        jobs = catalog.jobs.jobs(catalog.jobs.batch("night").id, limit=None)
        clips = {clip.id: clip for clip in catalog.clips(limit=None)}
    states = Counter(job.state for job in jobs)
    if states != {"done": len(wanted)}:
        wrong.append(f"states {dict(states)}, last reasons {[job.reason for job in jobs]}")
    if Counter(clips.keys()) != Counter(job.clip_id for job in jobs):
        wrong.append(f"{len(clips)} rows, for jobs {[job.clip_id for job in jobs]}")
    out = root / "out"
    expected = set()
    for one in wanted:
        place = out / (one.folder or "")
        expected |= {place / f"{one.name}{suffix}" for suffix in (".mp4", ".jpg")}
    found = {Path(folder, name) for folder, _, names in os.walk(out) for name in names}
    if found != expected:
        wrong.append(f"too much {sorted(found - expected)}, missing {sorted(expected - found)}")
    folders = {Path(folder, name) for folder, names, _ in os.walk(out) for name in names}
    wrong += [f"left over: {path}" for path in folders if path.name.startswith(".")]
    wrong += [f"left over: {path}" for path in (root / "media").glob(".svd-*")]
    for job in jobs:
        if job.path is None or job.path not in expected:
            wrong.append(f"job {job.index} names {job.path}")
        elif job.clip_id in clips and not clips[job.clip_id].present:
            wrong.append(f"the file of job {job.index} is not what its row says")
        elif probe(job.path).frames != FRAMES:
            wrong.append(f"{job.path} does not hold {FRAMES} frames")
    return wrong
