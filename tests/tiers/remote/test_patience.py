"""Deadlines, pauses, paces and breakers."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from svd_local.errors import Cancelled, RemoteFailed, TierBusy, TierUnavailable
from svd_local.tiers.base import Monitor
from svd_local.tiers.remote.breaker import Breaker
from svd_local.tiers.remote.call import Call, Over, supervise
from svd_local.tiers.remote.pace import Pace
from svd_local.tiers.remote.policy import Policy


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


class TestPace:
    def test_nothing_is_held_up_at_first(self) -> None:
        pace, begun = Pace(), time.monotonic()
        for _ in range(100):
            pace.turn(Call(5))
        assert time.monotonic() - begun < 0.2

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
        pace.slow_down({}, 0.05)
        begun = time.monotonic()
        for _ in range(3):
            pace.turn(Call(5))
        assert time.monotonic() - begun >= 0.15

    def test_a_long_one_ends_the_call_at_once(self) -> None:
        pace = Pace()
        pace.slow_down({}, 3600)
        begun = time.monotonic()
        with pytest.raises(TierBusy) as caught:
            pace.turn(Call(5))
        assert caught.value.retry_after_s == pytest.approx(3600, abs=1)
        assert time.monotonic() - begun < 0.2

    def test_the_policy_header_gives_the_interval(self) -> None:
        pace = Pace()
        pace.slow_down({"ratelimit-policy": "q=100;w=10"}, 0.01)
        begun = time.monotonic()
        for _ in range(3):
            pace.turn(Call(5))
        assert time.monotonic() - begun >= 0.2


class TestBreaker:
    def fail(self, breaker: Breaker, error: Exception) -> None:
        with pytest.raises(type(error)), breaker.watching():
            raise error

    def test_it_opens_after_failures_in_a_row_and_closes_again(self) -> None:
        breaker = Breaker("it", failures=2, rest_s=0.1)
        self.fail(breaker, RemoteFailed("x"))
        with breaker.watching():
            pass
        self.fail(breaker, TierBusy("x"))
        breaker.check()
        self.fail(breaker, TierBusy("x"))
        with pytest.raises(TierBusy, match="2 times in a row"):
            breaker.check()
        time.sleep(0.12)
        breaker.check()

    def test_a_pause_the_service_asks_for_is_kept(self) -> None:
        breaker = Breaker("it")
        self.fail(breaker, TierBusy("x", retry_after_s=40))
        with pytest.raises(TierBusy) as caught:
            breaker.check()
        assert caught.value.retry_after_s == pytest.approx(40, abs=1)

    def test_no_pause_is_kept_for_ever(self) -> None:
        breaker = Breaker("it")
        self.fail(breaker, TierBusy("x", retry_after_s=10**6))
        with pytest.raises(TierBusy) as caught:
            breaker.check()
        assert caught.value.retry_after_s == pytest.approx(600, abs=1)

    @pytest.mark.parametrize("error", [TierUnavailable("401"), Cancelled("stop")])
    def test_what_says_nothing_of_its_health_does_not_count(self, error: Exception) -> None:
        breaker = Breaker("it", failures=1)
        self.fail(breaker, error)
        breaker.check()
