from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from servers.databases import postgres_only, sqlite_only
from sqlalchemy import update

from svd_local.catalog import Catalog
from svd_local.catalog.jobs import WORKER_LOST_HINT, NewJob, Reason
from svd_local.catalog.jobs.lost import LOST_TRIES
from svd_local.catalog.jobs.views import counted
from svd_local.catalog.models import JobRow
from svd_local.errors import InvalidRequest, LeaseLost, NotFound

BAD = Reason("tier-failed", "it failed", "Try again.")


def new(number: int, **values) -> NewJob:
    usual = {
        "key": f"{number:064x}",
        "row": number + 2,
        "index": number,
        "fields": {"prompt": f"lesson {number}", "seed": number},
    }
    return NewJob(**{**usual, **values})


@pytest.fixture
def jobs(catalog):
    return catalog.jobs


@pytest.fixture
def enroll(jobs, tmp_path):
    return lambda wanted, name="night": jobs.enroll(name, wanted, folder=tmp_path / "out")


@pytest.fixture
def claim(jobs):
    def claim(batch, worker="w", lease_s=60.0):
        return jobs.claim(batch.id, worker, lease_s=lease_s)

    return claim


def expire(catalog, job_id: int) -> None:
    """As if its worker had been silent for longer than its lease."""
    with catalog._ready().writing() as session:
        past = datetime.now(UTC) - timedelta(seconds=5)
        session.execute(update(JobRow).where(JobRow.id == job_id).values(lease_until=past))


def test_a_job_comes_back_as_it_was_enrolled(enroll, jobs, claim, tmp_path):
    wanted = new(
        3, folder="lesson 1/ü", name="a clip", priority=2, fields={"prompt": "ü", "seed": 7}
    )
    batch = enroll([wanted]).batch
    assert (batch.name, batch.folder, batch.total) == ("night", str(tmp_path / "out"), 1)
    (job,) = jobs.jobs(batch.id)
    assert {name: getattr(job, name) for name in ("key", "row", "index", "fields")} == {
        "key": wanted.key,
        "row": 5,
        "index": 3,
        "fields": {"prompt": "ü", "seed": 7},
    }
    assert (job.folder, job.name, job.priority) == ("lesson 1/ü", "a clip", 2)
    assert (job.state, job.attempt, job.reason, job.path) == ("queued", 0, None, None)
    assert claim(batch).job.fields == job.fields


def test_enrolling_the_same_again_changes_nothing(enroll, jobs, claim):
    batch = enroll([new(0), new(1), new(2)]).batch
    lease = claim(batch)
    before = jobs.jobs(batch.id)
    again = enroll([new(0), new(1), new(2)])
    assert (again.added, again.known, again.cancelled) == (0, 3, 0)
    assert jobs.jobs(batch.id) == before
    jobs.heartbeat(lease)


def test_an_edited_manifest_adds_cancels_and_keeps_what_is_done(enroll, jobs, claim, tmp_path):
    batch = enroll([new(0), new(1), new(2)]).batch
    jobs.finish(claim(batch), clip_id=None, path=tmp_path / "x.mp4", cached=False)
    running = claim(batch)
    edited = enroll([new(9, index=0), new(2, index=1, row=77, fields={"prompt": "changed"})])
    assert (edited.added, edited.known, edited.cancelled) == (1, 1, 0)
    states = {job.key: job.state for job in jobs.jobs(batch.id)}
    assert states == {
        new(0).key: "done",
        new(1).key: "running",
        new(2).key: "queued",
        new(9).key: "queued",
    }
    (moved,) = [job for job in jobs.jobs(batch.id) if job.key == new(2).key]
    assert (moved.row, moved.index, moved.fields["prompt"]) == (77, 1, "lesson 2")
    jobs.heartbeat(running)
    gone = enroll([new(9, index=0)])
    assert gone.cancelled == 1
    (cancelled,) = jobs.jobs(batch.id, state="cancelled")
    assert cancelled.reason is not None
    assert "no longer in the manifest" in cancelled.reason.message
    back = enroll([new(9, index=0), new(2, index=1)])
    assert (back.added, back.known) == (1, 1)
    assert jobs.counts(batch.id) == {"done": 1, "running": 1, "queued": 2}


def test_two_jobs_of_one_key_are_refused_and_nothing_is_enrolled(enroll, jobs):
    with pytest.raises(ValueError, match="rows 2 and 9"):
        enroll([new(0), new(0, row=9)])
    assert jobs.batches() == []


def test_a_batch_keeps_its_folder(enroll, jobs, tmp_path):
    enroll([new(0)])
    with pytest.raises(InvalidRequest, match="writes into") as caught:
        jobs.enroll("night", [new(1)], folder=tmp_path / "elsewhere")
    assert caught.value.field == "folder"
    assert jobs.batch("night").counts == {"queued": 1}


def test_a_running_job_that_the_manifest_lost_is_never_queued_again(enroll, jobs, claim, catalog):
    wanted = [new(n) for n in range(7)]
    enroll(wanted)
    leases = [claim(enroll(wanted).batch, worker=f"w{n}") for n in range(6)]
    enrolment = enroll(wanted[5:])
    assert (enrolment.cancelled, enrolment.leaving, enrolment.known) == (0, 5, 2)
    assert jobs.release(leases[0]) is False
    assert jobs.fail(leases[1], BAD, tries=3, delay_s=0).state == "cancelled"
    assert jobs.fail(leases[2], BAD, tries=1, delay_s=0).state == "cancelled"
    jobs.release_dead("w3")
    expire(catalog, leases[4].job.id)
    last = claim(enrolment.batch)
    assert last.job.index == 6
    assert jobs.counts(enrolment.batch.id) == {"cancelled": 5, "running": 2}
    codes = [job.reason.code for job in jobs.jobs(enrolment.batch.id, state="cancelled")]
    assert codes == ["not-in-manifest"] * 5
    back = enroll(wanted)
    assert (back.added, back.known, back.leaving) == (5, 2, 0)


def test_a_failed_job_that_the_manifest_lost_is_wanted_no_more(enroll, jobs, claim):
    batch = enroll([new(0), new(1)]).batch
    assert jobs.fail(claim(batch), BAD, tries=1, delay_s=0).state == "failed"
    corrected = enroll([new(5, index=0), new(1)])
    assert (corrected.added, corrected.cancelled) == (1, 0)
    assert jobs.counts(batch.id) == {"cancelled": 1, "queued": 2}
    enroll([new(0), new(1)])
    [back] = [job for job in jobs.jobs(batch.id) if job.key == new(0).key]
    assert (back.state, back.attempt, back.reason) == ("queued", 0, None)


def test_a_running_job_whose_row_comes_back_goes_on(enroll, jobs, claim):
    enroll([new(0), new(1)])
    lease = claim(enroll([new(0), new(1)]).batch)
    assert enroll([new(1)]).leaving == 1
    enrolment = enroll([new(0), new(1)])
    assert (enrolment.added, enrolment.known) == (0, 2)
    assert jobs.release(lease) is True
    assert jobs.counts(enrolment.batch.id) == {"queued": 2}


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


def test_a_later_manifest_keeps_the_order_of_groups(enroll, claim):
    enroll([new(0, group="b"), new(1, group="a")])
    batch = enroll(
        [new(5, index=0, group="a"), new(0, index=1, group="b"), new(1, index=2, group="a")]
    )
    order = [claim(batch.batch).job.key for _ in range(3)]
    assert order[0] == new(0).key


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


def test_rows_of_several_clips_are_known(enroll, jobs):
    rows = [dataclasses.replace(new(n), row=row) for n, row in enumerate((2, 3, 3, 4, 4))]
    batch = enroll(rows).batch
    assert jobs.several(batch.id) == {3, 4}
    enroll(rows[:-1])
    assert jobs.several(batch.id) == {3}


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


def test_pages_in_the_manifests_order(enroll, jobs, claim, tmp_path):
    batch = enroll(new(number) for number in range(7)).batch
    first = jobs.jobs(batch.id, limit=3)
    rest = jobs.jobs(batch.id, after=first[-1], limit=None)
    assert [job.index for job in (*first, *rest)] == list(range(7))
    jobs.finish(claim(batch), clip_id=None, path=tmp_path / "x.mp4", cached=False)
    assert [job.index for job in jobs.jobs(batch.id, state="done")] == [0]
    with pytest.raises(NotFound):
        jobs.job(10**9)


def test_batches_are_found_by_the_beginning_of_their_name(enroll, jobs):
    older = enroll([new(0)], "night").batch
    newer = enroll([new(0), new(1)], "nightly").batch
    assert [batch.name for batch in jobs.batches()] == ["nightly", "night"]
    assert jobs.batch("night") == older
    assert jobs.batch("nightl") == newer
    assert jobs.batch(newer.id.upper()) == newer
    assert newer.to_json()["counts"]["queued"] == 2
    for nothing in ("x", ""):
        with pytest.raises(NotFound, match="no batch") as caught:
            jobs.batch(nothing)
        assert "nightly" in caught.value.hint
    with pytest.raises(NotFound, match="more than one"):
        jobs.batch("nigh")


@sqlite_only
def test_looking_makes_no_database(jobs, root):
    assert jobs.batches() == []
    with pytest.raises(NotFound, match="no batch"):
        jobs.batch("night")
    assert not root.exists()


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


def test_processes_enrolling_one_manifest_at_once_make_one_batch(
    database_url, root, catalog, tmp_path
):
    catalog.open()
    failures = []

    def work() -> None:
        try:
            with Catalog(database_url, root) as own:
                own.jobs.enroll("night", [new(n) for n in range(20)], folder=tmp_path / "out")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [batch.total for batch in catalog.jobs.batches()] == [20]


def test_what_was_left_out_is_kept_until_the_next_command(jobs, tmp_path):
    def enroll(skipped=None):
        return jobs.enroll("night", [new(0)], folder=tmp_path, skipped=skipped).batch

    assert enroll().skipped is None
    told = {"rows": 2, "problems": [{"row": 3, "reason": "\ud800 is none"}]}
    assert enroll(told).skipped == told
    assert jobs.batch("night").to_json()["skipped"] == told
    assert enroll().skipped is None
    assert jobs.batch("night").skipped is None


def test_what_is_read_together_is_of_one_moment(enroll, jobs):
    """An outlook that has a job running, and its worker at nothing, would be of two."""
    batch = enroll([new(0)]).batch
    with jobs._ready().reading() as session:
        before = counted(session, batch.id)
        assert jobs.claim(batch.id, "worker", lease_s=60) is not None
        assert counted(session, batch.id) == before == {"queued": 1}
    assert jobs.counts(batch.id) == {"running": 1}


def test_a_run_is_told_with_its_pause_while_its_note_holds(enroll, jobs, monkeypatch):
    def note(run, who, pause=None, state="running"):
        figures = {"made": 1, "elapsed_s": 9.0}
        jobs.note_run(batch.id, run, who, state, figures, elapsed_s=9.0, pause=pause)

    batch = enroll([new(0)]).batch
    assert jobs.runs(batch.id) == []
    note("1", "one")
    assert jobs.batch("night").pause is None
    note("1", "one", ("the disk is full", "Free some."))
    first = jobs.batch("night").pause
    note("1", "one", ("the disk is fuller\0", "Free some."))
    again = jobs.batches()[0].pause
    assert (again.why, again.since, again.who) == ("the disk is fuller", first.since, "one")
    note("2", "two", ("no node has room", ""))
    assert jobs.batch("night").pause == again, "who waits longer is told"
    note("1", "one", state="ended")
    assert jobs.batch("night").to_json()["pause"]["who"] == "two"
    latest, before = jobs.runs(batch.id)
    assert (latest.state, latest.who, before.state, before.figures["made"]) == (
        *("running", "two"),
        *("ended", 1),
    )
    assert 9.0 <= before.seconds < 30.0
    monkeypatch.setattr("svd_local.catalog.jobs.views.RUN_HOLDS_S", -1)
    assert jobs.runs(batch.id)[0].state == "lost"
    assert jobs.batch("night").pause is None
    assert jobs.runs(batch.id)[0].to_json() | {"began_at": "", "ended_at": ""} == {
        "state": "lost",
        "who": "two",
        "began_at": "",
        "ended_at": "",
        "pause": None,
        "made": 1,
        "elapsed_s": 9.0,
    }
