"""How long a worker may be silent, as a whole and with its clips."""

from __future__ import annotations

import dataclasses

import pytest
from servers.values import JOB

from svd_local.batch.events import JobBegun
from svd_local.batch.options import BatchOptions
from svd_local.batch.workers.seat import Seat
from svd_local.batch.workers.silence import Attention, why_hung


@pytest.fixture
def options(tmp_path):
    return BatchOptions("night", tmp_path, lease_s=60.0, silence_s=1000.0)


@pytest.fixture
def seat(monkeypatch):
    """A worker was started in it at 0."""
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    seat = Seat(0, None, None)
    seat.started(object())
    return seat


def test_the_first_word_may_take_three_minutes_and_every_further_one_a_lease_and_a_half(
    seat, options
):
    assert why_hung(seat, options, 180.0) is None
    assert why_hung(seat, options, 181.0) == "it gave no sign of life for 3 min"
    seat.heard(news=False)
    assert why_hung(seat, options, 90.0) is None
    assert why_hung(seat, options, 91.0) == "it gave no sign of life for 91 s"
    seat.name = "w"  # it waits for work
    assert why_hung(seat, options, 91.0) == "it gave no sign of life for 91 s"


def test_one_that_beats_may_load_slowly_but_not_for_ever(seat, options):
    seat.heard(news=False)
    seat.beat_at = 1000.0
    assert why_hung(seat, options, 960.0) is None
    assert why_hung(seat, options, 961.0) == "it said nothing for 16 min"
    seat.name = "w"
    assert why_hung(seat, options, 961.0) is None


def test_one_that_beats_tells_by_itself_which_clip_hangs_and_else_is_ended_a_lease_later(
    seat, options
):
    seat.heard(news=True)
    seat.name = "w"
    seat.begun(JobBegun(dataclasses.replace(JOB, id=1), 0))
    seat.beat_at = 2000.0
    assert why_hung(seat, options, 1060.0) is None
    assert why_hung(seat, options, 1061.0) == "it said nothing for 18 min"


def test_what_nobody_listened_to_is_no_silence(seat, options, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    seat.heard(news=True)
    attention = Attention()
    for moment in range(4):
        now[0] = float(moment)
        assert attention.paid(seat) == now[0]
    assert (seat.beat_at, seat.heard_at) == (0.0, 0.0)

    now[0] = 1000.0  # as after Ctrl-Z and fg

    assert why_hung(seat, options, attention.paid(seat)) is None
    assert why_hung(seat, options, 1090.0) is not None
