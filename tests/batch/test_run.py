"""The loop on one machine: what it tells, what it leaves, and what it takes over from the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from svd_local.batch import BatchOptions, JobSpec, run_batch
from svd_local.batch.control import Control
from svd_local.batch.events import Event, JobBegun, JobDone, JobFailed, JobPostponed, JobProgress
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
def machine(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None, media_dir=tmp_path / "media", enable_fake_tier=True, models_dir=tmp_path
    )


def options(tmp_path: Path, **changes: Any) -> BatchOptions:
    given: dict[str, Any] = {"backoff_s": 0.0, "poll_s": 0.05, **changes}
    return BatchOptions("night", tmp_path / "out", **given)


def clips(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "out").glob("*.mp4"))


def test_every_job_is_done_once_and_told_of(tmp_path: Path, machine: Settings) -> None:
    told: list[Event] = []
    summary = run_batch(machine, specs(3), options(tmp_path), told.append)
    assert (summary.made, summary.exit_status, summary.batch.counts) == (3, 0, {"done": 3})
    assert len([event for event in told if isinstance(event, JobDone)]) == 3
    assert {event.lane for event in told if isinstance(event, JobBegun)} <= {0, 1}
    assert len(clips(tmp_path)) == 3
    with Catalog(None, machine.media_dir) as catalog:
        rows = {clip.id for clip in catalog.clips()}
        assert {job.clip_id for job in catalog.jobs.jobs(summary.batch.id)} == rows


def test_a_job_keeps_the_seed_that_was_drawn_for_it(tmp_path: Path, machine: Settings) -> None:
    run_batch(machine, specs(1), options(tmp_path))
    with Catalog(None, machine.media_dir) as catalog:
        (clip,) = catalog.clips()
        (job,) = catalog.jobs.jobs(catalog.jobs.batch("night").id)
        assert clip.request["seed"] == job.fields["seed"]


@pytest.mark.parametrize(
    ("script", "postponed", "failed", "status"),
    [("failed*2,ok", 2, 0, 0), ("failed*3", 2, 1, 1)],
)
def test_a_failing_job_is_tried_three_times(
    tmp_path: Path, machine: Settings, script: str, postponed: int, failed: int, status: int
) -> None:
    told: list[Event] = []
    broken = machine.model_copy(update={"fake_failures": script})
    summary = run_batch(broken, specs(1), options(tmp_path), told.append)
    assert len([event for event in told if isinstance(event, JobPostponed)]) == postponed
    assert len([event for event in told if isinstance(event, JobFailed)]) == failed
    assert (summary.exit_status, len(summary.failures)) == (status, failed)


def test_what_means_nothing_is_given_up_at_once(tmp_path: Path, machine: Settings) -> None:
    told: list[Event] = []
    summary = run_batch(
        machine, specs(1, speed="fp8", tier="local"), options(tmp_path), told.append
    )
    assert not [event for event in told if isinstance(event, JobPostponed)]
    assert summary.failures[0].attempt == 1


def test_a_listener_that_raises_stops_it_and_gives_the_jobs_back(
    tmp_path: Path, machine: Settings
) -> None:
    slow = machine.model_copy(update={"fake_seconds": 30.0})

    def hear(event: Event) -> None:
        if isinstance(event, JobProgress):
            raise LookupError

    with pytest.raises(LookupError):
        run_batch(slow, specs(2), options(tmp_path), hear)
    with Catalog(None, machine.media_dir) as catalog:
        assert catalog.jobs.batch("night").counts == {"queued": 2}
    assert clips(tmp_path) == []


def test_a_cancelled_job_stops_in_the_middle(tmp_path: Path, machine: Settings) -> None:
    slow = machine.model_copy(update={"fake_seconds": 30.0})
    with Catalog(None, machine.media_dir) as catalog:

        def hear(event: Event) -> None:
            if isinstance(event, JobProgress):
                catalog.jobs.cancel(event.job.batch_id)

        summary = run_batch(slow, specs(1), options(tmp_path, lease_s=1.0), hear)
    assert summary.batch.counts == {"cancelled": 1}
    assert clips(tmp_path) == []


def test_asked_to_stop_before_it_begins_it_makes_nothing(tmp_path: Path, machine: Settings) -> None:
    control = Control()
    control.ask()
    summary = run_batch(machine, specs(2), options(tmp_path), control=control)
    assert (summary.exit_status, summary.batch.counts) == (Cancelled.exit_status, {"queued": 2})


@pytest.mark.parametrize("tries", [1, 3])
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
    with Catalog(None, machine.media_dir) as catalog:
        assert sorted(clip.path for clip in catalog.clips()) == made
