from __future__ import annotations

import dataclasses

import pytest
from helpers.jobs import new
from servers.databases import sqlite_only

from svd_local.catalog.jobs.views import counted
from svd_local.errors import NotFound


def test_rows_of_several_clips_are_known(enroll, jobs):
    rows = [dataclasses.replace(new(n), row=row) for n, row in enumerate((2, 3, 3, 4, 4))]
    batch = enroll(rows).batch
    assert jobs.several(batch.id) == {3, 4}
    enroll(rows[:-1])
    assert jobs.several(batch.id) == {3}


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
