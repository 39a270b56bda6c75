"""Deadlines, pauses and paces."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from svd_local.errors import Cancelled, RemoteFailed, TierBusy
from svd_local.tiers.base import Monitor
from svd_local.tiers.policy import Policy
from svd_local.tiers.remote import pace as pace_module
from svd_local.tiers.remote.call import Call, Over, supervise
from svd_local.tiers.remote.pace import Pace


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

    def test_a_used_up_quota_is_heeded_before_it_is_refused(self) -> None:
        pace, begun = Pace(), time.monotonic()
        pace.turn(Call(5))
        pace.heed({"ratelimit": '"api";r=3;t=50'})
        pace.turn(Call(5))
        assert time.monotonic() - begun < 0.2
        pace.heed({"ratelimit": '"api";r=0;t=50'})
        with pytest.raises(TierBusy):
            pace.turn(Call(5))

    def test_the_policy_header_gives_the_interval(self) -> None:
        pace = Pace()
        pace.slow_down({"ratelimit-policy": "q=100;w=10"}, 0.01)
        begun = time.monotonic()
        for _ in range(3):
            pace.turn(Call(5))
        assert time.monotonic() - begun >= 0.2


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
        one.slow_down({}, 0.1)
        begun = time.monotonic()
        for pace in (one, other, one, other):
            pace.turn(Call(5))
        assert time.monotonic() - begun >= 0.4

    def test_a_long_pause_is_kept_by_whoever_comes_next(self, tmp_path: Path) -> None:
        Pace(ledger=tmp_path / "it.json").slow_down({}, 3600)
        with pytest.raises(TierBusy) as caught:
            Pace(ledger=tmp_path / "it.json").turn(Call(5))
        assert caught.value.retry_after_s == pytest.approx(3600, abs=1)

    def test_an_interval_is_forgotten_in_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "it.json"
        Pace(ledger=path).slow_down({}, 5)
        now = time.time()
        monkeypatch.setattr(pace_module.time, "time", lambda: now + 3600)
        begun = time.monotonic()
        for _ in range(3):
            Pace(ledger=path).turn(Call(5))
        assert time.monotonic() - begun < 0.5

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
        assert json.loads(path.read_text())["interval"] == 0

    def test_a_folder_that_cannot_be_written_leaves_each_its_own_pace(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        pace = Pace(ledger=tmp_path / "file" / "it.json")
        pace.slow_down({}, 0.05)
        begun = time.monotonic()
        for _ in range(3):
            pace.turn(Call(5))
        assert time.monotonic() - begun >= 0.15
