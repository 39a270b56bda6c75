from __future__ import annotations

import pytest
from helpers.jobs import BAD, new

from svd_local.catalog.jobs import Reason
from svd_local.errors import LeaseLost


def test_priority_then_group_then_waiting_then_manifest_order(enroll, jobs, claim):
    batch = enroll(
        [
            new(0, group="svd-xt"),
            new(1, group="svd"),
            new(2, group="svd-xt"),
            new(3, group="svd", priority=5),
            new(4, group="svd-xt", priority=-1),
        ]
    ).batch
    first = claim(batch)
    assert first.job.index == 3
    second = claim(batch)
    assert second.job.index == 0
    jobs.fail(second, BAD, tries=3, delay_s=0)
    # What failed goes after what is still fresh in its group, and before the next group.
    assert [claim(batch).job.index for _ in range(4)] == [2, 0, 1, 4]
    assert claim(batch) is None


def test_what_is_not_due_waits(enroll, jobs, claim):
    batch = enroll([new(0)]).batch
    assert jobs.outlook(batch.id).next_s == 0
    job = jobs.fail(claim(batch), BAD, tries=3, delay_s=30)
    assert (job.state, job.attempt, job.reason) == ("queued", 1, BAD)
    assert claim(batch) is None
    outlook = jobs.outlook(batch.id)
    assert (outlook.queued, outlook.running, outlook.over) == (1, 0, False)
    assert 20 < outlook.next_s <= 30


def test_the_last_try_is_the_end_and_retry_a_new_beginning(enroll, jobs, claim):
    batch = enroll([new(0)]).batch
    for attempt in (1, 2, 3):
        lease = claim(batch)
        assert lease.job.attempt == attempt
        job = jobs.fail(lease, BAD, tries=3, delay_s=0)
    assert (job.state, job.reason) == ("failed", BAD)
    assert job.finished_at is not None
    assert jobs.outlook(batch.id).over
    assert claim(batch) is None
    assert jobs.retry(batch.id) == 1
    lease = claim(batch)
    assert (lease.job.attempt, lease.job.reason) == (1, None)


def test_what_can_never_succeed_is_given_up_at_once(enroll, jobs, claim):
    batch = enroll([new(0)]).batch
    job = jobs.fail(claim(batch), BAD, tries=3, delay_s=0, final=True)
    assert (job.state, job.attempt) == ("failed", 1)


def test_a_reason_may_hold_anything_that_can_be_said(enroll, jobs, claim):
    batch = enroll([new(0)]).batch
    reason = Reason("x" * 100, "a\0b" + "ü" * 5000, "")
    job = jobs.fail(claim(batch), reason, tries=1, delay_s=0)
    assert job.reason.code == "x" * 64
    assert job.reason.message == "ab" + "ü" * 5000


def test_done_is_done(enroll, jobs, claim, root):
    batch = enroll([new(0)]).batch
    lease = claim(batch)
    jobs.finish(lease, clip_id="01", path=root / "videos" / "x.mp4", cached=True)
    (job,) = jobs.jobs(batch.id)
    assert (job.state, job.clip_id, job.cached, job.worker) == ("done", "01", True, "w")
    assert job.path == root / "videos" / "x.mp4"
    assert job.started_at <= job.finished_at
    for late in (jobs.heartbeat, jobs.release):
        with pytest.raises(LeaseLost):
            late(lease)
    assert jobs.retry(batch.id) == 0
    assert jobs.cancel(batch.id) == 0


def test_released_work_costs_no_try(enroll, jobs, claim):
    batch = enroll([new(0)]).batch
    jobs.release(claim(batch))
    assert claim(batch).job.attempt == 1
