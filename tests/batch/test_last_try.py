"""Killed while publishing, in the last try too; and stopped before anything was begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from servers.databases import database_of

from svd_local.batch import BatchOptions, JobSpec, run_batch
from svd_local.batch.control import Control
from svd_local.catalog import Catalog
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


@pytest.fixture
def machine(tmp_path: Path, server: str) -> Settings:
    return Settings(
        _env_file=None,
        media_dir=tmp_path / "media",
        database_url=database_of(tmp_path),
        enable_fake_tier=True,
        models_dir=tmp_path,
    )


def options(tmp_path: Path, **changes: Any) -> BatchOptions:
    given: dict[str, Any] = {"backoff_s": 0.0, "poll_s": 0.05, **changes}
    return BatchOptions("night", tmp_path / "out", **given)


def clips(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "out").glob("*.mp4"))


def test_asked_to_stop_before_it_begins_it_makes_nothing(tmp_path: Path, machine: Settings) -> None:
    control = Control()
    control.ask()
    summary = run_batch(machine, specs(2), options(tmp_path), control=control)
    assert (summary.exit_status, summary.batch.counts) == (Cancelled.exit_status, {"queued": 2})


@pytest.mark.parametrize("tries", [1])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_of_publishing_each_job_is_done_once(
    tmp_path: Path, machine: Settings, point: str, tries: int
) -> None:
    killed = subprocess.run(
        [sys.executable, str(STORY), str(tmp_path), point],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    lost = tries == 1 and point in ("publishing", "poster")  # no clip to adopt, and no try left
    summary = run_batch(machine, specs(2), options(tmp_path, tries=tries))
    assert summary.batch.counts == ({"done": 1, "failed": 1} if lost else {"done": 2})
    made = clips(tmp_path)
    assert len(made) == 2 - lost
    assert all(probe(path).frames == 14 for path in made)
    assert not list((tmp_path / "out").glob(".svd-*"))
    with Catalog(machine.database_url, machine.media_dir) as catalog:
        assert sorted(clip.path for clip in catalog.clips()) == made
