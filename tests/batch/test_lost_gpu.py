"""A GPU that is lost in this process ends the batch: no job after it is tried in vain."""

from __future__ import annotations

import pytest
from servers.nights import spec

from svd_local.batch.events import JobLost, JobPostponed, JobReleased
from svd_local.batch.options import BatchOptions
from svd_local.batch.run import run_batch
from svd_local.catalog import Catalog
from svd_local.errors import DeviceLost
from svd_local.generator import VideoGenerator
from svd_local.testing import FakeTier


class LostTier(FakeTier):
    made = 0

    def generate(self, job):
        self.made += 1
        job.monitor.report("denoise", 0, 1)
        raise DeviceLost("device-side assert triggered", hint="Start again.")


def test_it_is_raised_and_only_the_clip_that_met_it_has_had_a_try(settings, tmp_path):
    tier, told = LostTier(True), []
    options = BatchOptions("night", tmp_path / "out", lanes=2, poll_s=0.1)

    with VideoGenerator(settings, tiers=[tier]) as generator, pytest.raises(DeviceLost):
        run_batch(
            settings,
            [spec(number, "x") for number in range(5)],
            options,
            told.append,
            generator=generator,
        )

    assert tier.made <= 2  # the other lane may have had its turn already
    with Catalog(settings.database_url, settings.media_dir) as catalog:
        jobs = catalog.jobs.jobs(catalog.jobs.batch("night").id)
    assert {job.state for job in jobs} == {"queued"}
    assert sum(job.attempt for job in jobs) == tier.made
    postponed = [event for event in told if isinstance(event, JobPostponed)]
    assert [event.reason.code for event in postponed] == ["device-lost"] * tier.made
    assert len([e for e in told if isinstance(e, JobReleased)]) <= 1


def test_it_ends_the_batch_also_where_the_job_was_lost_before(settings, tmp_path):
    class Cancelling(LostTier):
        def generate(self, job):
            with Catalog(settings.database_url, settings.media_dir) as catalog:
                catalog.jobs.cancel(catalog.jobs.batch("night").id)
            return super().generate(job)

    told = []
    options = BatchOptions("night", tmp_path / "out", lanes=1, poll_s=0.1)
    with (
        VideoGenerator(settings, tiers=[Cancelling(True)]) as generator,
        pytest.raises(DeviceLost),
    ):
        run_batch(settings, [spec(0, "x")], options, told.append, generator=generator)
    assert [type(event) for event in told if isinstance(event, JobLost)] == [JobLost]
