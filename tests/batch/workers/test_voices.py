"""What one worker says of its waiting, and what is told of it."""

from __future__ import annotations

import dataclasses

import pytest
from servers.values import JOB, NOW

from svd_local.batch.events import JobBegun, Waiting
from svd_local.batch.workers.seat import Seat
from svd_local.batch.workers.voices import Voices


@pytest.mark.parametrize(
    ("workers", "told"), [((), True), (("stranger",), True), (("second",), False)]
)
def test_a_job_that_another_of_our_workers_holds_is_not_with_others(workers, told):
    heard = []
    first, second = Seat(0, None, None), Seat(1, None, None)
    first.name, second.name = "first", "second"
    waiting = Waiting(NOW, 0, len(workers), workers)

    Voices([first, second], 2, heard.append).heed(first, waiting)

    assert heard == ([waiting] if told else [])


def test_waiting_is_told_once_until_somebody_works_again():
    heard = []
    first, second = seats = [Seat(0, None, None), Seat(1, None, None)]
    voices = Voices(seats, 2, heard.append)
    waiting, begun = Waiting(NOW, 1, 0), JobBegun(dataclasses.replace(JOB, id=1), 0)

    voices.heed(first, waiting)
    voices.heed(second, waiting)
    voices.heed(second, begun)
    voices.heed(first, waiting)
    second.ended(begun.job)
    voices.heed(second, waiting)

    assert [type(event) for event in heard] == [Waiting, JobBegun, Waiting]
