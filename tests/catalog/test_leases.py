from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from helpers.jobs import BAD, expire, new
from servers.databases import postgres_only

from svd_local.catalog.jobs import WORKER_LOST_HINT, Reason
from svd_local.catalog.jobs.lost import LOST_TRIES
from svd_local.errors import LeaseLost


def test_an_expired_lease_is_another_ones_and_the_first_may_publish_nothing(
    catalog, enroll, jobs, claim, make_clip
):
    batch = enroll([new(0)]).batch
    slow = claim(batch, "slow")
    assert claim(batch, "other") is None
    expire(catalog, slow.job.id)
    other = claim(batch, "other")
    assert (other.job.id, other.job.attempt) == (slow.job.id, 2)

    def publish(lease):
        clip = make_clip(lease.job.worker)
        return catalog.add(
            clip,
            {},
            joined=lambda session, name: jobs.complete(
                session, lease, clip_id=name, path=clip.path, cached=False
            ),
        )

    with pytest.raises(LeaseLost):
        jobs.heartbeat(slow)
    with pytest.raises(LeaseLost):
        publish(slow)
    assert catalog.clips() == []
    name = publish(other)
    assert [clip.id for clip in catalog.clips()] == [name]
    assert jobs.job(slow.job.id).clip_id == name
    with pytest.raises(LeaseLost):
        publish(slow)
    assert len(catalog.clips()) == 1


@postgres_only
def test_leases_go_by_the_servers_clock_whatever_a_machines_says(enroll, jobs, claim, monkeypatch):
    batch = enroll([new(0), new(1)]).batch
    lease = claim(batch, "here")
    job = jobs.fail(claim(batch), BAD, tries=3, delay_s=600)

    class Fast(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=1)

    for module in ("jobs.clock", "jobs.store", "jobs.enrolment", "jobs.views", "models"):
        monkeypatch.setattr(f"svd_local.catalog.{module}.datetime", Fast, raising=False)
    assert claim(batch, "elsewhere") is None
    assert 590 < (jobs.job(job.id).not_before - datetime.now(UTC)).total_seconds() < 610
    assert jobs.outlook(batch.id).next_s > 50
    jobs.heartbeat(lease)
    assert claim(batch, "elsewhere") is None


def test_a_heartbeat_keeps_the_lease(enroll, jobs, claim):
    batch = enroll([new(0)]).batch
    lease = claim(batch, lease_s=0.4)
    for _ in range(4):
        time.sleep(0.2)
        jobs.heartbeat(lease)
        assert claim(batch) is None
    time.sleep(0.5)
    assert claim(batch) is not None


def test_a_worker_that_dies_unseen_time_and_again_takes_the_job_with_it(
    catalog, enroll, jobs, claim
):
    batch = enroll([new(0)]).batch
    for _ in range(LOST_TRIES - 1):
        expire(catalog, claim(batch).job.id)
    last = claim(batch)
    assert "If that happens again" in last.job.reason.hint
    expire(catalog, last.job.id)
    assert claim(batch) is None
    (job,) = jobs.jobs(batch.id, state="failed")
    assert job.reason.code == "worker-lost"
    assert f"{LOST_TRIES} times by now" in job.reason.message
    assert "again, look" not in job.reason.hint, "it has"
    assert "batch retry queues it again" in job.reason.hint
    assert jobs.retry(batch.id) == 1
    assert claim(batch).job.lost == 0


def test_tries_that_ended_unseen_are_none_of_the_batchs(catalog, enroll, jobs, claim):
    batch = enroll([new(0)]).batch
    for _ in range(3):
        claim(batch, "dead")
        jobs.release_dead("dead")
    lease = claim(batch)
    assert (lease.job.attempt, lease.job.lost) == (4, 3)
    assert jobs.fail(lease, BAD, tries=2, delay_s=0).state == "queued"
    watched = claim(batch, "watched")
    jobs.release_dead("watched", {watched.job.id: BAD}, tries=2)
    assert jobs.job(watched.job.id).state == "failed"


def test_a_job_that_is_given_up_over_its_workers_end_is_not_told_to_wait_and_see(
    enroll, jobs, claim
):
    batch = enroll([new(0), new(1)]).batch
    lost = Reason("worker-lost", "its worker died", f"{WORKER_LOST_HINT} a.log has what it said.")
    first = claim(batch, "dead")
    jobs.release_dead("dead", {first.job.id: lost}, tries=2)
    assert jobs.job(first.job.id).reason == lost
    told = jobs.fail(claim(batch), lost, tries=1, delay_s=0)
    jobs.release_dead("other", {claim(batch, "other").job.id: lost}, tries=2)
    for reason in (told.reason, jobs.job(first.job.id).reason):
        assert reason.hint.startswith("Look for what kills it")
        assert reason.hint.endswith("batch retry queues it again. a.log has what it said.")


def test_a_worker_known_to_be_dead_gives_its_jobs_back_at_once(enroll, jobs, claim):
    batch = enroll([new(0), new(1)]).batch
    dead, alive = claim(batch, "dead"), claim(batch, "alive")
    assert sorted(jobs.workers(batch.id)) == ["alive", "dead"]
    assert jobs.release_dead("dead") == 1
    again = claim(batch, "next")
    assert (again.job.id, again.job.attempt) == (dead.job.id, 2)
    jobs.heartbeat(alive)


def test_what_a_worker_had_that_was_ended_by_us_keeps_its_tries(enroll, jobs, claim):
    batch = enroll([new(0), new(1), new(2)]).batch
    first, second, alive = claim(batch, "ended"), claim(batch, "ended"), claim(batch, "alive")
    enroll([new(0), new(2)])
    assert jobs.release_ended("ended") == 1
    kept, lost = jobs.job(first.job.id), jobs.job(second.job.id)
    assert (kept.state, kept.attempt, kept.reason) == ("queued", 0, None)
    assert (lost.state, lost.reason.code) == ("cancelled", "not-in-manifest")
    jobs.heartbeat(alive)
    with pytest.raises(LeaseLost):
        jobs.heartbeat(first)


def test_a_dead_workers_clip_counts_until_somebody_else_has_the_job(
    catalog, enroll, jobs, claim, root
):
    batch = enroll([new(0), new(1)]).batch
    first, second = claim(batch, "dead"), claim(batch, "dead")
    jobs.release_dead("dead")

    def complete(lease):
        with catalog._ready().writing() as session:
            jobs.complete_for_dead(
                session, lease.job.id, lease.token, clip_id="01", path=root / "x.mp4"
            )

    complete(first)
    assert jobs.job(first.job.id).state == "done"
    assert claim(batch).job.id == second.job.id
    with pytest.raises(LeaseLost):
        complete(second)


def test_a_clip_of_the_last_try_counts_though_the_job_was_given_up(
    catalog, enroll, jobs, claim, root
):
    batch = enroll([new(0)]).batch
    lease = claim(batch, "dead")
    jobs.release_dead("dead", {lease.job.id: BAD})
    assert jobs.job(lease.job.id).state == "failed"
    with catalog._ready().writing() as session:
        jobs.complete_for_dead(
            session, lease.job.id, lease.token, clip_id="01", path=root / "x.mp4"
        )
    assert jobs.job(lease.job.id).state == "done"


def test_cancelling_reaches_who_runs_it(enroll, jobs, claim):
    batch = enroll([new(0), new(1), new(2)]).batch
    lease = claim(batch)
    assert jobs.cancel(batch.id, [lease.job.id]) == 1
    with pytest.raises(LeaseLost):
        jobs.heartbeat(lease)
    assert jobs.cancel(batch.id) == 2
    assert jobs.counts(batch.id) == {"cancelled": 3}
    assert claim(batch) is None
    assert jobs.retry(batch.id, states=("failed", "cancelled")) == 3
    with pytest.raises(ValueError, match="queued"):
        jobs.retry(batch.id, states=("queued",))


def test_threads_claim_every_job_once(catalog, enroll, jobs, root):
    batch = enroll(new(number) for number in range(60)).batch
    claimed: Counter[int] = Counter()
    failures = []

    def work(name: str) -> None:
        try:
            while (lease := jobs.claim(batch.id, name, lease_s=60)) is not None:
                claimed[lease.job.id] += 1
                jobs.finish(lease, clip_id=None, path=root / "x.mp4", cached=False)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(claimed) == 60
    assert set(claimed.values()) == {1}
    assert jobs.counts(batch.id) == {"done": 60}
