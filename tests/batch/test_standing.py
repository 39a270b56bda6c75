from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers import batches

from svd_local.batch.control import Control
from svd_local.batch.ground import enrol, take
from svd_local.batch.liveness import FOLDER, Presence, lives
from svd_local.batch.standing import as_seen, standing
from svd_local.catalog import Catalog
from svd_local.catalog.jobs import Batch
from svd_local.settings import Settings


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(None, tmp_path) as catalog:
        yield catalog


@pytest.fixture
def batch(catalog: Catalog, tmp_path: Path) -> Batch:
    return enrol(catalog, map(batches.spec, range(3)), batches.options(tmp_path)).batch


def work(catalog: Catalog, batch: Batch, who: str) -> None:
    """A command at work on a job, and about to pause."""
    catalog.jobs.note_run(
        *(batch.id, f"run-of-{who}"[:26], who, "running", {"made": 2}),
        elapsed_s=5.0,
        pause=("the disk is full", "Free some."),
    )
    assert catalog.jobs.claim(batch.id, who, lease_s=60) is not None


def dead(media: Path) -> str:
    """What a killed command leaves."""
    (media / FOLDER).mkdir(exist_ok=True)
    (media / FOLDER / "host-1-dead").touch()
    return "host-1-dead"


def test_who_is_alive_is_dead_or_unknown(tmp_path: Path) -> None:
    with Presence(tmp_path) as presence:
        assert lives(tmp_path, presence.name) is True
        assert lives(tmp_path, dead(tmp_path)) is False
        assert lives(tmp_path, "elsewhere-1") is None
        assert lives(tmp_path, None) is None
        assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == [
            *sorted(("host-1-dead", presence.name))
        ]
    assert lives(tmp_path, presence.name) is None


def test_a_living_command_and_one_elsewhere_stand_as_the_catalog_has_them(
    catalog: Catalog, batch: Batch, tmp_path: Path
) -> None:
    with Presence(tmp_path) as presence:
        work(catalog, batch, presence.name)
        work(catalog, batch, "elsewhere-1")
        now = standing(catalog.jobs, catalog.jobs.batch("night"), tmp_path)
        assert now.cut_off == 0
        assert now.batch.pause is not None
        runs = as_seen(catalog.jobs.runs(batch.id), tmp_path)
        assert [run.state for run in runs] == ["running", "running"]


def test_what_a_dead_command_has_at_hand_is_cut_off(
    catalog: Catalog, batch: Batch, tmp_path: Path
) -> None:
    work(catalog, batch, dead(tmp_path))
    now = standing(catalog.jobs, catalog.jobs.batch("night"), tmp_path)
    assert (now.cut_off, now.batch.pause) == (1, None)
    assert now.to_json()["cut_off"] == 1
    (job,) = catalog.jobs.jobs(batch.id, state="running")
    told = now.told(job)
    assert told.state == "queued"
    assert told.reason is not None
    assert "killed" in told.reason.message
    (run,) = as_seen(catalog.jobs.runs(batch.id), tmp_path)
    assert (run.state, run.pause, run.figures) == ("lost", None, {"made": 2})
    assert catalog.jobs.runs(batch.id)[0].state == "running", "looking changes nothing"


def test_who_is_buried_runs_nothing_any_more(
    catalog: Catalog, batch: Batch, tmp_path: Path
) -> None:
    work(catalog, batch, dead(tmp_path))
    settings, options = Settings.load(media_dir=tmp_path), batches.options(tmp_path)
    with ExitStack() as stack:
        ground, _ = take(stack, settings, map(batches.spec, range(3)), options, Control())
        ground.bury()
    (run,) = catalog.jobs.runs(batch.id)
    assert (run.state, run.pause) == ("lost", None)
    assert standing(catalog.jobs, catalog.jobs.batch("night"), tmp_path).cut_off == 0
