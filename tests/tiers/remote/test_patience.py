"""Deadlines, pauses and paces."""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from svd_local.errors import Cancelled, RemoteFailed, TierBusy
from svd_local.tiers.base import Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote import pace as pace_module
from svd_local.tiers.remote.call import Call, Over, supervise
from svd_local.tiers.remote.pace import Pace, ledger_name


def late() -> TierBusy:
    return TierBusy("too late")


class TestCall:
    def test_the_end_wakes_a_pause(self) -> None:
        call = Call(30)
        threading.Timer(0.05, call.end).start()
        begun = time.monotonic()
        with pytest.raises(Over):
            call.pause(20)
        assert time.monotonic() - begun < 1
        assert call.remaining == 0

    def test_the_end_wakes_a_read(self) -> None:
        call = Call(30)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            call.hold(ours)
            threading.Timer(0.05, call.end).start()
            begun = time.monotonic()
            assert ours.recv(1) == b""
            assert time.monotonic() - begun < 1

    def test_a_connection_that_opens_after_the_end_is_shut(self) -> None:
        call = Call(30)
        call.end()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            call.hold(ours)
            assert ours.recv(1) == b""


class TestSupervise:
    def test_the_result_comes_back_and_the_call_is_over(self) -> None:
        call = Call(5)
        assert supervise(call, lambda: 42, Monitor(), late) == 42
        assert call.remaining == 0

    def test_an_error_comes_back_as_it_is(self) -> None:
        def work() -> None:
            raise RemoteFailed("no")

        with pytest.raises(RemoteFailed, match="no"):
            supervise(Call(5), work, Monitor(), late)

    def test_work_that_cannot_be_woken_is_left(self) -> None:
        release = threading.Event()
        begun = time.monotonic()
        with pytest.raises(TierBusy, match="too late"):
            supervise(Call(0.1), release.wait, Monitor(), late)
        assert time.monotonic() - begun < 0.6
        release.set()

    def test_work_that_notices_the_end_itself_is_late_too(self) -> None:
        call = Call(0.02)

        def work() -> None:
            time.sleep(0.03)
            call.check()

        with pytest.raises(TierBusy, match="too late"):
            supervise(call, work, Monitor(), late)

    def test_cancelling_ends_the_pauses_of_the_work(self) -> None:
        call = Call(30)
        at = time.monotonic() + 0.1
        begun = time.monotonic()
        monitor = Monitor(cancelled=lambda: time.monotonic() > at)
        with pytest.raises(Cancelled):
            supervise(call, lambda: call.pause(20), monitor, late)
        assert time.monotonic() - begun < 0.6


class TestPolicy:
    def test_the_backoff_doubles_to_its_bound_and_is_spread(self) -> None:
        policy = Policy(deadline_s=1, backoff_s=1, longest_backoff_s=5)
        for tried, bound in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (50, 5.0)):
            drawn = {policy.backoff(tried) for _ in range(50)}
            assert len(drawn) > 10
            assert bound / 2 <= min(drawn) <= max(drawn) <= bound


def refused(pace: Pace, wait_s: float | None = None, *, after: int = 1, asks: bool = False) -> None:
    """So many requests are let through, and the next is refused."""
    for _ in range(after):
        pace.turn(Call(5), asks=asks)
    sent = pace.turn(Call(5), asks=asks)
    pace.slow_down({}, wait_s, sent=sent, asks=asks)


def seconds_of(*turns: Callable[[Call], float]) -> float:
    begun = time.monotonic()
    for turn in turns:
        turn(Call(5))
    return time.monotonic() - begun


class Clock:
    """``time.time`` of a pace, which does not pass while it waits."""

    def __init__(self) -> None:
        self.now = 1e9

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def gap_of(pace: Pace, clock: Clock) -> float:
    """Seconds between the next two requests."""
    clock.now = max(clock.now, pace._state.next)
    call = Call(100)
    call.pause = lambda seconds: None  # type: ignore[method-assign]
    first = pace.turn(call)
    return pace.turn(call) - first


class TestPace:
    def test_nothing_is_held_up_at_first(self) -> None:
        pace = Pace()
        assert seconds_of(*[pace.turn] * 100) < 0.2

    def test_callers_at_once_are_spaced(self) -> None:
        pace, sent = Pace(0.05), []

        def send() -> None:
            pace.turn(Call(5))
            sent.append(time.monotonic())

        threads = [threading.Thread(target=send) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sent.sort()
        assert sent[-1] - sent[0] >= 0.19

    def test_a_short_retry_after_becomes_the_pace(self) -> None:
        pace = Pace()
        refused(pace, 0.05)
        assert seconds_of(*[pace.turn] * 3) >= 0.15

    @pytest.mark.parametrize("asked_s", [50, 86400])
    def test_a_long_one_ends_the_call_at_once_and_costs_no_try(self, asked_s: float) -> None:
        pace = Pace()
        refused(pace, asked_s)
        begun = time.monotonic()
        for wait in (pace.turn, pace.approach):
            with pytest.raises(TierBusy) as caught:
                wait(Call(5))
            assert caught.value.unasked
            assert caught.value.retry_after_s == pytest.approx(min(asked_s, 600), abs=1)
        assert time.monotonic() - begun < 0.2

    def test_a_used_up_quota_is_heeded_before_it_is_refused(self) -> None:
        pace = Pace()
        pace.turn(Call(5))
        pace.heed({"ratelimit": '"api";r=3;t=50'})
        assert seconds_of(pace.turn) < 0.2
        pace.heed({"ratelimit": '"api";r=0;t=50'})
        with pytest.raises(TierBusy):
            pace.turn(Call(5))

    def test_the_policy_header_gives_the_interval(self) -> None:
        pace = Pace()
        pace.slow_down({"ratelimit-policy": "q=100;w=10"}, 0.01, sent=time.time())
        assert seconds_of(*[pace.turn] * 3) >= 0.2

    def test_questions_keep_to_it_once_one_was_refused(self) -> None:
        pace = Pace()
        refused(pace, 0.1)
        ask = functools.partial(pace.turn, asks=True)
        assert seconds_of(*[ask] * 20) < 0.1
        assert pace.spare()
        refused(pace, 0.1, asks=True)
        assert not pace.spare()
        assert seconds_of(ask, pace.turn, ask) >= 0.3


class TestWhatARefusalTeaches:
    @pytest.mark.parametrize(
        ("through", "apart_s", "asked_s", "gap_s"),
        [
            (0, 0.0, 10.0, 0.0),
            (1, 0.2, 1.0, 1.0),
            (1, 60.0, 1.0, 1.0),
            (5, 0.2, 9.0, 2.0),
            (30, 0.1, 57.0, 2.0),
            (2, 500.0, 30.0, 0.0),
        ],
        ids=["none of ours", "one", "one long ago", "a window", "a long window", "another's"],
    )
    def test_with_a_time_it_is_what_was_let_through(
        self, clock: Clock, through: int, apart_s: float, asked_s: float, gap_s: float
    ) -> None:
        pace = Pace()
        for _ in range(through):
            pace.turn(Call(5))
            clock.now += apart_s
        pace.slow_down({}, asked_s, sent=pace.turn(Call(5)))
        assert gap_of(pace, clock) == pytest.approx(gap_s * 1.05 + (0.05 if gap_s else 0), abs=0.1)

    def test_without_one_the_gap_grows(self, clock: Clock) -> None:
        pace, gaps = Pace(), []
        for _ in range(8):
            sent = pace.turn(Call(5)) if not gaps else clock.now
            pace.slow_down({}, None, sent=sent)
            gaps.append(gap_of(pace, clock))
        assert gaps[0] == pytest.approx(0.575)
        assert gaps[1:4] == pytest.approx([1.15, 2.3, 4.6])
        assert gaps[-1] == 20

    def test_what_was_on_its_way_at_a_refusal_teaches_nothing_more(self, clock: Clock) -> None:
        pace = Pace()
        sent = [pace.turn(Call(5)) for _ in range(4)]
        clock.now += 0.1
        for at in sent:
            pace.slow_down({}, None, sent=at)
        assert gap_of(pace, clock) == pytest.approx(0.575)

    def test_it_is_halved_in_time_and_sooner_where_it_is_new(self, clock: Clock) -> None:
        pace = Pace()
        spans = []
        for _ in range(7):
            pace.slow_down({}, None, sent=clock.now)
            pace._state.interval, learned = 0.5, clock.now
            while pace._state.gap(clock.now) == 0.5:
                clock.now += 1
            spans.append(clock.now - learned)
        assert spans == pytest.approx([60, 60, 120, 240, 480, 900, 900], abs=2)
        clock.now += 3 * 900
        assert pace._state.gap(clock.now) == pytest.approx(0.5 / 2**4)
        clock.now += 900
        assert pace._state.gap(clock.now) == 0

    @pytest.mark.parametrize(
        "headers", [{"ratelimit-policy": "q=10;w=5"}, {"ratelimit": '"api";r=20;t=10'}]
    )
    def test_the_service_may_take_it_back(self, clock: Clock, headers: dict[str, str]) -> None:
        pace = Pace()
        pace.turn(Call(5))
        pace.slow_down({}, 8.0, sent=pace.turn(Call(5)))
        clock.now += 10
        pace.heed(headers)
        assert gap_of(pace, clock) == pytest.approx(0.575)
        pace.heed({"ratelimit-policy": "q=1;w=9"})  # and slows nobody who was not refused
        assert gap_of(pace, clock) == pytest.approx(0.575)


class TestPaceOfSeveralProcesses:
    def test_who_is_never_throttled_never_sees_a_file(self, tmp_path: Path) -> None:
        pace = Pace(ledger=tmp_path / "deep" / "it.json")
        for _ in range(3):
            pace.turn(Call(5))
            pace.heed({"ratelimit": '"api";r=3;t=50'})
        assert list(tmp_path.iterdir()) == []

    def test_what_one_learns_the_others_keep_to(self, tmp_path: Path) -> None:
        one, other = (Pace(ledger=tmp_path / "deep" / "it.json") for _ in range(2))
        other.turn(Call(5))
        refused(one, 0.1)
        assert seconds_of(one.turn, other.turn, one.turn, other.turn) >= 0.4

    def test_a_long_pause_is_kept_by_whoever_comes_next(self, tmp_path: Path) -> None:
        refused(Pace(ledger=tmp_path / "it.json"), 3600)
        with pytest.raises(TierBusy) as caught:
            Pace(ledger=tmp_path / "it.json").turn(Call(5))
        assert caught.value.retry_after_s == pytest.approx(600, abs=1)

    def test_no_ledger_asks_for_more_than_the_longest_pause(self, tmp_path: Path) -> None:
        path = tmp_path / "it.json"
        refused(Pace(ledger=path, longest_s=600), 600)
        with pytest.raises(TierBusy) as caught:
            Pace(ledger=path, longest_s=60).turn(Call(5))
        assert caught.value.retry_after_s == pytest.approx(60, abs=1)

    def test_each_account_of_each_server_has_its_own(self) -> None:
        names = {
            ledger_name(*of)
            for of in (
                ("webui", "http://a", ""),
                ("webui", "http://b", ""),
                ("webui", "http://a", "user"),
                ("huggingface", "http://a", ""),
            )
        }
        assert len(names) == 4
        assert not any("user" in name for name in names)

    def test_an_interval_is_forgotten_in_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "it.json"
        refused(Pace(ledger=path), 5)
        now = time.time()
        monkeypatch.setattr(pace_module.time, "time", lambda: now + 3600)
        assert seconds_of(*[Pace(ledger=path).turn] * 3) < 0.5

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"next": "x"}',
            '{"next": 9e99, "interval": 9, "learned": 9, "written": 9e99}',
        ],
    )
    def test_a_ledger_that_makes_no_sense_holds_nobody_up(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "it.json"
        path.write_text(text)
        begun = time.monotonic()
        Pace(ledger=path).turn(Call(5))
        assert time.monotonic() - begun < 0.5

    def test_a_folder_that_cannot_be_written_leaves_each_its_own_pace(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        pace = Pace(ledger=tmp_path / "file" / "it.json")
        refused(pace, 0.05)
        assert seconds_of(*[pace.turn] * 3) >= 0.15
