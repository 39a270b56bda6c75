from __future__ import annotations

import dataclasses
import threading

import pytest
from servers.values import JOB

from svd_local.batch.company import Company, is_suspect
from svd_local.catalog.jobs import Reason


@pytest.mark.parametrize(
    ("code", "suspect"),
    [("worker-lost", True), ("device-lost", True), ("tier-failed", False), (None, False)],
)
def test_a_job_is_suspect_while_its_last_try_ended_with_its_worker(code, suspect):
    reason = None if code is None else Reason(code, "m")

    assert is_suspect(dataclasses.replace(JOB, reason=reason)) is suspect


class Lane(threading.Thread):
    """Enters a company in a thread of its own, and stays until it is let go."""

    def __init__(self, enter):
        super().__init__(daemon=True)
        self.enter, self.inside, self.let_go = enter, threading.Event(), threading.Event()
        self.there = None
        self.start()

    def run(self):
        with self.enter() as self.there:
            self.inside.set()
            self.let_go.wait(10)

    def leave(self):
        self.let_go.set()
        self.join(10)
        assert not self.is_alive()


def test_lanes_join_one_another():
    company = Company(lambda: False)
    lanes = [Lane(company.joined) for _ in range(3)]

    assert all(lane.inside.wait(10) for lane in lanes)
    for lane in lanes:
        lane.leave()


def test_whoever_is_alone_waits_for_the_others_and_keeps_new_ones_out():
    company = Company(lambda: False)
    first = Lane(company.joined)
    assert first.inside.wait(10)
    hermit = Lane(company.alone)
    while company._hermit is None:
        pass
    late = Lane(company.joined)

    assert not hermit.inside.wait(0.3)
    assert not late.inside.is_set()
    first.leave()
    assert hermit.inside.wait(10)
    assert not late.inside.wait(0.3)
    hermit.leave()
    assert late.inside.wait(10)
    late.leave()


def test_two_who_want_to_be_alone_are_so_in_turn():
    company = Company(lambda: False)
    lanes = [Lane(company.alone), Lane(company.alone)]
    while not any(lane.inside.is_set() for lane in lanes):
        pass
    one, other = sorted(lanes, key=lambda lane: not lane.inside.is_set())

    assert not other.inside.wait(0.3)
    one.leave()
    assert other.inside.wait(10)
    other.leave()


def test_one_that_is_by_itself_may_stay_so():
    company = Company(lambda: False)
    with company.joined():
        late = Lane(company.joined)
        assert late.inside.wait(10)
        assert not company.stay_alone()
        late.leave()

        assert company.stay_alone()
        late = Lane(company.joined)
        assert not late.inside.wait(0.3)
    assert late.inside.wait(10)
    late.leave()


def test_nobody_waits_when_it_is_time_to_leave():
    leaving = threading.Event()
    company = Company(leaving.is_set)
    with company.joined():
        hermit, second = Lane(company.alone), None
        while company._hermit is None:
            pass
        second = Lane(company.joined)
        leaving.set()
        assert hermit.inside.wait(10)
        assert second.inside.wait(10)
        assert (hermit.there, second.there) == (False, False)
        hermit.leave()
        second.leave()
    leaving.clear()
    with company.joined() as there:
        assert there
