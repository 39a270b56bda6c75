"""Killed while publishing, in the last try too; and stopped before anything was begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from servers.databases import database_of
from sqlalchemy import update

from svd_local.batch import BatchOptions, JobSpec, run_batch
from svd_local.batch.control import Control
from svd_local.catalog import Catalog
from svd_local.catalog.jobs.lost import LOST_TRIES
from svd_local.catalog.models import JobRow
from svd_local.errors import Cancelled
from svd_local.media.probe import probe
from svd_local.settings import Settings

POINTS = ("publishing", "poster", "video", "row")
STORY = Path(__file__).with_name("story_killed.py")


def specs(count: int, **fields: Any) -> list[JobSpec]:
    return [
        JobSpec(
            n + 1, n, f"{n:064x}", {"prompt": f"clip {n}", "tier": "fake", **fields}, None, None
        )
        for n in range(count)
    ]


def machine_of(folder: Path) -> Settings:
    return Settings(
        _env_file=None,
        media_dir=folder / "media",
        database_url=database_of(folder),
        enable_fake_tier=True,
        models_dir=folder,
    )


def options(tmp_path: Path, **changes: Any) -> BatchOptions:
    given: dict[str, Any] = {"backoff_s": 0.0, "poll_s": 0.05, **changes}
    return BatchOptions("night", tmp_path / "out", **given)


def clips(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "out").glob("*.mp4"))


def test_asked_to_stop_before_it_begins_it_makes_nothing(tmp_path: Path, server: str) -> None:
    control = Control()
    control.ask()
    summary = run_batch(machine_of(tmp_path), specs(2), options(tmp_path), control=control)
    assert (summary.exit_status, summary.batch.counts) == (Cancelled.exit_status, {"queued": 2})


def test_killed_at_any_point_of_publishing_the_last_try_counts_if_there_is_a_clip(
    tmp_path: Path, server: str
) -> None:
    killed = subprocess.run(
        [sys.executable, str(STORY), str(tmp_path), *POINTS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
    )
    assert killed.returncode == 0, killed.stderr
    for point in POINTS:
        folder = tmp_path / point
        lost = point in ("publishing", "poster")  # no clip to adopt, and no try left
        settings = machine_of(folder)
        with (
            Catalog(settings.database_url, settings.media_dir) as catalog,
            catalog._ready().writing() as session,
        ):
            session.execute(update(JobRow).values(lost=LOST_TRIES - 1))
        summary = run_batch(settings, specs(2), options(folder))
        assert summary.batch.counts == ({"done": 1, "failed": 1} if lost else {"done": 2}), point
        made = clips(folder)
        assert len(made) == 2 - lost
        assert all(probe(path).frames == 14 for path in made)
        assert not list((folder / "out").glob(".svd-*"))
        with Catalog(settings.database_url, settings.media_dir) as catalog:
            assert sorted(clip.path for clip in catalog.clips()) == made
