"""Whose fault a worker's end is: the place's, or the job's."""

from __future__ import annotations

import dataclasses

import pytest
from servers.values import CLIP, JOB

from svd_local.batch.events import JobBegun, JobDone, JobFailed
from svd_local.batch.workers.seat import Seat
from svd_local.catalog.jobs import Reason


@pytest.fixture
def seat():
    return Seat(0, None, None)


def job(number):
    return dataclasses.replace(JOB, id=number)


def lose(seat, *ids):
    """Its worker takes up the jobs ``ids``, and dies."""
    for number in ids:
        seat.begun(JobBegun(job(number), 0))
    wait_s = seat.lost("why", 1.0, 100.0)
    assert seat.due == (None if wait_s is None else 100.0 + wait_s)
    assert set(seat.cleared()) == set(ids)
    if wait_s is not None:
        seat.due = None
    return wait_s


def test_three_that_die_over_different_jobs_are_the_places_fault(seat):
    assert [lose(seat, 1), lose(seat, 2), lose(seat, 3)] == [1.0, 2.0, None]
    assert seat.over
    assert "3 workers failed there" in seat.set_aside


def test_three_that_die_before_any_job_are_the_places_fault(seat):
    assert [lose(seat), lose(seat), lose(seat)] == [1.0, 2.0, None]


def test_one_job_that_was_there_every_time_is_at_fault_itself(seat):
    waits = [lose(seat, 1, 2), lose(seat, 1, 3), lose(seat, 1)]

    assert waits == [1.0, 2.0, 4.0]
    assert seat.set_aside is None


def test_a_clip_that_is_made_acquits_the_place(seat):
    lose(seat, 1)
    lose(seat, 2)
    seat.done(JobDone(job(3), CLIP))

    assert [lose(seat, 4), lose(seat, 5)] == [1.0, 2.0]


@pytest.mark.parametrize(
    "event",
    [
        JobDone(job(3), CLIP, adopted=True),
        JobDone(job(3), dataclasses.replace(CLIP, cached=True)),
    ],
)
def test_a_clip_that_was_only_found_proves_nothing(seat, event):
    lose(seat, 1)
    lose(seat, 2)
    seat.done(event)

    assert lose(seat, 4) is None


def test_a_job_that_lost_the_gpu_counts_as_at_hand(seat):
    lost = Reason("device-lost", "assert")
    for _ in range(3):
        seat.begun(JobBegun(job(1), 0))
        seat.failed(JobFailed(job(1), lost))
        lose(seat)

    assert seat.set_aside is None


def test_the_wait_grows_to_a_minute_and_no_further(seat):
    assert [lose(seat, 1) for _ in range(9)][-3:] == [60.0] * 3
