from __future__ import annotations

import time

import pytest
from helpers import batches
from helpers.night import Night, Tier

from svd_local.batch import events
from svd_local.batch.control import Control
from svd_local.batch.events import Event
from svd_local.tiers.base import Job


def test_asked_once_it_finishes_the_clip_at_hand_and_goes_on_next_time(night: Night) -> None:
    night.tier.before = lambda job: night.control.ask()
    specs = [batches.spec(number) for number in range(3)]
    summary = night.run(specs, lanes=1)
    assert (summary.made, summary.stopped, summary.exit_status) == (1, True, 130)
    assert summary.batch.counts == {"done": 1, "queued": 2}
    night.control, night.tier.before = Control(), lambda job: None
    assert night.run(specs).exit_status == 0
    assert night.faults(specs) == []
    assert len(night.tier.made) == 3


def test_asked_twice_it_gives_the_clip_at_hand_back(night: Night) -> None:
    def twice(job: Job) -> None:
        night.control.ask()
        night.control.ask()

    night.tier.before = twice
    specs = [batches.spec(0)]
    summary = night.run(specs)
    assert (summary.made, summary.batch.counts) == (0, {"queued": 1})
    assert len(night.of(events.JobReleased)) == 1
    assert list((night.root / "out").iterdir()) == []
    night.control, night.tier.before = Control(), lambda job: None
    night.run(specs)
    with night.catalog() as catalog:
        (job,) = catalog.jobs.jobs(catalog.jobs.batch("night").id)
    assert job.attempt == 1


def test_an_interrupt_asks_once(night: Night) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, events.JobDone):
            raise KeyboardInterrupt

    night.on = interrupt
    night.tier = Tier(seconds=0.3)
    summary = night.run([batches.spec(number) for number in range(4)], lanes=1)
    assert summary.stopped
    assert 1 <= summary.made <= 3
    assert night.of(events.Stopping)[0].cancelling is False


def test_a_callback_that_raises_stops_the_batch_and_nothing_is_lost(night: Night) -> None:
    def raises(event: Event) -> None:
        if isinstance(event, events.JobProgress):
            raise ConnectionError("nobody looks any more")

    night.on = raises
    night.tier = Tier(seconds=0.3)
    specs = [batches.spec(0)]
    with pytest.raises(ConnectionError):
        night.run(specs)
    night.on, night.control = lambda event: None, Control()
    night.run(specs)
    assert night.faults(specs) == []


def test_a_cancelled_job_stops_in_the_making_and_publishes_nothing(night: Night) -> None:
    def cancel(job: Job) -> None:
        with night.catalog() as catalog:
            catalog.jobs.cancel(catalog.jobs.batch("night").id)

    night.tier = Tier(seconds=30)
    night.tier.before = cancel
    begun = time.monotonic()
    summary = night.run([batches.spec(0)], lease_s=1)
    assert time.monotonic() - begun < 10
    assert summary.batch.counts == {"cancelled": 1}
    assert len(night.of(events.JobLost)) == 1
    assert list((night.root / "out").iterdir()) == []
