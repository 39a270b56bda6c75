from __future__ import annotations

import threading

import pytest
from helpers.jobs import BAD, expire, new

from svd_local.catalog import Catalog
from svd_local.errors import InvalidRequest


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


def test_a_later_manifest_keeps_the_order_of_groups(enroll, claim):
    enroll([new(0, group="b"), new(1, group="a")])
    batch = enroll(
        [new(5, index=0, group="a"), new(0, index=1, group="b"), new(1, index=2, group="a")]
    )
    order = [claim(batch.batch).job.key for _ in range(3)]
    assert order[0] == new(0).key


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
