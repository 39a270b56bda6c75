from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import batches
from helpers.night import Night

from svd_local.batch import events
from svd_local.batch.events import Event
from svd_local.batch.plan import new_jobs
from svd_local.errors import DiskFull, StorageFailed
from svd_local.tiers.base import Job


def test_it_pauses_before_the_disk_is_full_and_goes_on_when_there_is_room(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.batch import space

    real, full = space.shutil.disk_usage, threading.Event()
    full.set()

    def usage(path: Path) -> Any:
        found = real(path)
        return found._replace(free=1000) if full.is_set() else found

    monkeypatch.setattr("svd_local.batch.space.shutil.disk_usage", usage)

    def make_room(event: Event) -> None:
        if isinstance(event, events.Paused):
            assert night.tier.made == []
            full.clear()

    night.on = make_room
    specs = [batches.spec(0), batches.spec(1)]
    night.run(specs, {"disk_reserve": 2**20})
    assert night.faults(specs) == []
    (paused,) = night.of(events.Paused)
    assert "1000 B free" in paused.why
    assert "SVD_LOCAL_DISK_RESERVE" in paused.hint
    assert len(night.of(events.Resumed)) == 1


def test_a_disk_that_is_full_again_and_again_costs_no_try(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.batch import space

    real, freed = space.shutil.disk_usage, 0

    def make_room(event: Event) -> None:
        nonlocal freed
        freed += 2**40 if isinstance(event, events.Paused) else 0

    def usage(path: Path) -> Any:
        found = real(path)
        return found._replace(free=found.free + freed)

    monkeypatch.setattr("svd_local.batch.space.shutil.disk_usage", usage)
    night.on = make_room

    def full(job: Job) -> None:
        if len(night.of(events.JobPostponed)) < 4:
            raise DiskFull("no room left", hint="Free some space.")

    night.tier.before = full
    specs = [batches.spec(0)]
    summary = night.run(specs, tries=2, lanes=1)
    assert night.faults(specs) == []
    assert (summary.made, summary.postponed) == (1, 4)
    with night.catalog() as catalog:
        (job,) = catalog.jobs.jobs(catalog.jobs.batch("night").id)
    assert job.attempt == 1
    assert [paused.why for paused in night.of(events.Paused)] == ["no room left"] * 4


def test_a_paused_batch_can_be_stopped(night: Night) -> None:
    night.on = lambda event: night.control.ask() if isinstance(event, events.Paused) else None
    summary = night.run([batches.spec(0)], {"disk_reserve": 2**60})
    assert summary.batch.counts == {"queued": 1}
    assert summary.exit_status == 130


def test_a_row_that_was_deleted_while_it_was_made_by_a_dead_worker_is_not_made(
    night: Night,
) -> None:
    specs = [batches.spec(0), batches.spec(1)]
    workers = night.root / "media" / ".svd-workers"
    workers.mkdir(parents=True)
    (workers / "dead").touch()
    with night.catalog() as catalog:
        there = catalog.jobs.enroll("night", new_jobs(specs), folder=night.root / "out").batch
        lease = catalog.jobs.claim(there.id, "dead", lease_s=60)
    assert lease is not None
    assert lease.job.index == 0
    summary = night.run(specs[1:])
    assert summary.batch.counts == {"cancelled": 1, "done": 1}
    assert night.tier.made == ["lesson 1"]
    (begun,) = night.of(events.Begun)
    assert (begun.enrolment.cancelled, begun.enrolment.leaving) == (1, 0)


def test_a_job_between_its_claim_and_its_beginning_is_not_with_other_workers(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    from svd_local.catalog.jobs import Jobs

    real = Jobs.claim

    def slow(self: Jobs, *args: Any, **options: Any) -> Any:
        lease = real(self, *args, **options)
        time.sleep(0.5 if lease is not None else 0.0)
        return lease

    monkeypatch.setattr(Jobs, "claim", slow)
    night.run([batches.spec(0)])
    assert night.of(events.Waiting) == []


def test_a_job_that_is_given_back_to_be_made_alone_is_not_with_other_workers(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two whose worker was killed, claimed side by side: one is given back, while the other lane looks."""
    from svd_local.catalog.jobs import Jobs

    real, claim, gave = Jobs.release, Jobs.claim, []

    def slow(self: Jobs, lease: Any) -> bool:
        gave.append(lease.job.index)
        time.sleep(0.5)  # and the other lane has no job left to claim
        return real(self, lease)

    def late(self: Jobs, *args: Any, **options: Any) -> Any:
        time.sleep(0.1)  # both lanes are there by then
        return claim(self, *args, **options)

    monkeypatch.setattr(Jobs, "release", slow)
    monkeypatch.setattr(Jobs, "claim", late)
    specs = [batches.spec(0), batches.spec(1)]
    workers = night.root / "media" / ".svd-workers"
    workers.mkdir(parents=True)
    (workers / "dead").touch()
    with night.catalog() as catalog:
        there = catalog.jobs.enroll("night", new_jobs(specs), folder=night.root / "out").batch
        for _ in specs:
            assert claim(catalog.jobs, there.id, "dead", lease_s=60) is not None
    night.run(specs)
    assert night.faults(specs) == []
    assert gave
    assert night.of(events.Waiting) == []


def test_jobs_that_other_workers_have_are_waited_for_and_that_is_said(night: Night) -> None:
    with night.catalog() as catalog:
        specs = [batches.spec(0)]
        there = catalog.jobs.enroll("night", new_jobs(specs), folder=night.root / "out").batch
        assert catalog.jobs.claim(there.id, "elsewhere", lease_s=1) is not None
    night.run(specs)
    [waiting] = night.of(events.Waiting)
    assert (waiting.queued, waiting.running, waiting.workers) == (0, 1, ("elsewhere",))


def test_a_locked_catalog_is_waited_for(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    from svd_local.catalog.jobs import Jobs

    real, refusals = Jobs.claim, iter(range(2))

    def claim(self: Jobs, *args: Any, **options: Any) -> Any:
        if next(refusals, None) is not None:
            raise StorageFailed("database is locked", hint="Wait.")
        return real(self, *args, **options)

    monkeypatch.setattr(Jobs, "claim", claim)
    specs = [batches.spec(0)]
    night.run(specs, lanes=1)
    assert night.faults(specs) == []
    assert [event.why for event in night.of(events.Paused)] == ["database is locked"]
    assert len(night.of(events.Resumed)) == 1
