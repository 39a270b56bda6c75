"""A batch whose process dies at any point goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import batches
from servers.databases import database_of, on_either_server

from svd_local.batch.run import run_batch
from svd_local.catalog import Catalog

HERE = Path(__file__).parent
CRASH_POINTS = HERE.parent / "storage" / "crash_points.py"
STORY = HERE / "story_batch.py"
SPECS = [batches.spec(number) for number in range(2)]

POINTS = {
    "a claim, uncommitted": "UPDATE jobs SET state",
    "a heartbeat, uncommitted": "UPDATE jobs SET lease_until",
    "a clip, encoded and not yet checked": r"open .*clip\.jpg",
    "a stem, reserved": r"open .*/publishing",
    "files, half published": r"os\.rename .*clip\.mp4",
    "files, published": "INSERT INTO clips",
    "row and job, uncommitted": "UPDATE jobs SET .*clip_id then commit",
    "row and job, committed": "UPDATE jobs SET .*clip_id then os.rename",
}
"""Each just before what the expression finds. Every other step is tried in the long run."""


pytestmark = pytest.mark.usefixtures("server")


def deaths_of(folder: Path, *points: str, **environment: str) -> list[str | None]:
    done = subprocess.run(
        [sys.executable, CRASH_POINTS, STORY, folder, *points],
        capture_output=True,
        text=True,
        timeout=1500,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    deaths: list[str | None] = json.loads(done.stdout)
    return deaths


def gone_on(folder: Path) -> list[str]:
    """What is wrong once the same batch was run again to its end."""
    url = database_of(folder)
    summary = run_batch(
        batches.settings(folder, url), SPECS, batches.options(folder, tries=99, lanes=2)
    )
    assert summary.exit_status == 0
    return batches.faults(folder, SPECS, url)


@on_either_server
def test_dead_at_a_named_point_it_goes_on(tmp_path: Path) -> None:
    deaths = deaths_of(tmp_path, *POINTS.values())
    assert None not in deaths, dict(zip(POINTS, deaths, strict=True))
    wrong = {
        death: faults
        for number, death in enumerate(deaths)
        if (faults := gone_on(tmp_path / str(number)))
    }
    assert wrong == {}


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_dead_at_any_step_it_goes_on(tmp_path: Path) -> None:
    deaths = deaths_of(tmp_path)
    assert len(deaths) > 100
    wrong = {}
    for number, death in enumerate(deaths):
        if faults := gone_on(tmp_path / str(number)):
            wrong[number, death] = faults
    assert wrong == {}


@pytest.mark.parametrize(
    "points",
    [
        ["UPDATE jobs SET .*clip_id", r"UPDATE jobs SET .*clip_id then os\.rmdir"],
        pytest.param([], marks=[pytest.mark.long, pytest.mark.timeout(3000)]),
    ],
    ids=["named", "any"],
)
def test_dead_while_adopting_it_goes_on(tmp_path: Path, points: list[str]) -> None:
    deaths = deaths_of(tmp_path, *points, SVD_TEST_ORPHAN="1")
    assert len(deaths) == len(points) or len(deaths) > 100
    assert not points or None not in deaths, deaths
    wrong = {
        (number, death): faults
        for number, death in enumerate(deaths)
        if (faults := gone_on(tmp_path / str(number)))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    "points",
    [
        [r"os\.remove .*/lesson 0\.mp4", r"os\.remove .*/lesson 0\.jpg"],
        pytest.param([], marks=[pytest.mark.long, pytest.mark.timeout(3000)]),
    ],
    ids=["named", "any"],
)
def test_dead_while_files_are_taken_back_none_is_left(tmp_path: Path, points: list[str]) -> None:
    deaths = deaths_of(tmp_path, *points, SVD_TEST_TAKEN="1")
    assert not points or None not in deaths, deaths
    for number, death in enumerate(deaths):
        folder = tmp_path / str(number)
        url = database_of(folder)
        settings, options = batches.settings(folder, url), batches.options(folder, tries=99)
        run_batch(settings, SPECS, options)
        with Catalog(url, folder / "media") as catalog:
            jobs = catalog.jobs.jobs(catalog.jobs.batch("night").id)
            clips = catalog.clips()
        assert {job.state for job in jobs} <= {"cancelled", "done"}, death
        done = sorted(str(job.path) for job in jobs if job.state == "done")
        assert sorted(str(clip.path) for clip in clips) == done, death
        assert sorted(str(path) for path in (folder / "out").rglob("*.mp4")) == done, death
        assert not list((folder / "out").rglob(".*")), death
        assert len(list((folder / "out").rglob("*.jpg"))) == len(done), death
