"""What falls through and what stops: one row per error type."""

from __future__ import annotations

import time

import pytest

from svd_local import errors
from svd_local.ladder import Breakers, climb
from svd_local.result import Attempt
from svd_local.testing import FakeTier
from svd_local.tiers.base import Tier
from svd_local.tiers.policy import Policy

_FALLS_THROUGH = {
    errors.TierUnavailable: "unavailable",
    errors.CheckpointUnavailable: "unavailable",
    errors.CheckpointGated: "unavailable",
    errors.CheckpointOffline: "unavailable",
    errors.TierBusy: "busy",
    errors.OutOfMemory: "failed",
    errors.RemoteFailed: "failed",
}
_STOPS = {
    errors.InvalidRequest: "failed",
    errors.ImageRejected: "failed",
    errors.CheckpointUnknown: "unavailable",
    errors.CheckpointBroken: "unavailable",
    errors.TierFailed: "failed",
    errors.DeviceLost: "failed",
    errors.BadOutput: "failed",
    errors.MediaFailed: "failed",
    errors.StorageFailed: "failed",
    errors.CommitUnknown: "failed",
    errors.DiskFull: "failed",
    errors.LeaseLost: "failed",
    errors.JobsFailed: "failed",
    errors.Cancelled: "failed",
}


class _Rung(FakeTier):
    """A rung of any name."""

    def __init__(self, name: str) -> None:
        super().__init__(enabled=True)
        self.id = name  # type: ignore[misc]


def _ladder() -> tuple[Tier, Tier]:
    return _Rung("better"), _Rung("worse")


def _failing(error: errors.SvdLocalError) -> object:
    def serve(tier: Tier, before: tuple[Attempt, ...]) -> str:
        if tier.id == "better":
            raise error
        return tier.id

    return serve


@pytest.mark.parametrize(("kind", "outcome"), _FALLS_THROUGH.items())
def test_falls_through(kind: type[errors.SvdLocalError], outcome: str) -> None:
    serve = _failing(kind("no", hint="Do this.", retry_after_s=9))
    made = climb(_ladder(), serve)  # type: ignore[arg-type, var-annotated]
    assert made.value == "worse"
    first, second = made.attempts
    assert (first.tier, first.outcome, first.code) == ("better", outcome, kind.code)
    assert first.retry_after_s == 9
    assert first.reason == "no. Do this."
    assert (second.tier, second.outcome, second.code) == ("worse", "ok", None)


@pytest.mark.parametrize(("kind", "outcome"), _STOPS.items())
def test_stops(kind: type[errors.SvdLocalError], outcome: str) -> None:
    with pytest.raises(kind) as caught:
        climb(_ladder(), _failing(kind("no")))  # type: ignore[arg-type, var-annotated]
    assert [(a.tier, a.outcome) for a in caught.value.attempts] == [("better", outcome)]


@pytest.mark.parametrize("kind", _FALLS_THROUGH)
def test_a_named_tier_never_falls_through(kind: type[errors.SvdLocalError]) -> None:
    with pytest.raises(kind) as caught:
        climb(_ladder(), _failing(kind("no")), fall_through=False)  # type: ignore[arg-type, var-annotated]
    assert len(caught.value.attempts) == 1


def test_every_error_type_is_in_one_of_the_two_tables() -> None:
    def below(kind: type[errors.SvdLocalError]) -> set[type[errors.SvdLocalError]]:
        return {kind}.union(*(below(child) for child in kind.__subclasses__()))

    known = below(errors.SvdLocalError) - {errors.SvdLocalError, errors.NotFound}
    ours = {kind for kind in known if kind.__module__ == errors.__name__}
    assert ours == {*_FALLS_THROUGH, *_STOPS}


def test_none_served() -> None:
    def serve(tier: Tier, before: tuple[Attempt, ...]) -> str:
        raise errors.TierUnavailable(f"no {tier.id}")

    made = climb(_ladder(), serve)
    assert made.value is None
    assert [a.outcome for a in made.attempts] == ["unavailable", "unavailable"]


def test_each_rung_is_told_the_attempts_before_it() -> None:
    told: list[tuple[Attempt, ...]] = []

    def serve(tier: Tier, before: tuple[Attempt, ...]) -> str:
        told.append(before)
        raise errors.TierUnavailable(f"no {tier.id}")

    climb(_ladder(), serve)
    assert [[a.tier for a in before] for before in told] == [[], ["better"]]


def test_an_error_that_is_not_ours_is_not_swallowed() -> None:
    def serve(tier: Tier, before: tuple[Attempt, ...]) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        climb(_ladder(), serve)


def test_ctrl_c_keeps_the_attempts() -> None:
    def serve(tier: Tier, before: tuple[Attempt, ...]) -> str:
        if tier.id == "better":
            raise errors.TierUnavailable("402")
        stop = KeyboardInterrupt()
        stop.add_note("It may go on")
        raise stop

    with pytest.raises(KeyboardInterrupt) as caught:
        climb(_ladder(), serve)
    attempts = caught.value.attempts  # type: ignore[attr-defined]
    assert [(a.tier, a.code) for a in attempts] == [
        ("better", "tier-unavailable"),
        ("worse", "cancelled"),
    ]
    assert attempts[1].reason == "interrupted. It may go on"


class TestBreakers:
    def rung(self, **patience: float) -> FakeTier:
        tier = FakeTier(enabled=True)
        tier.policy = Policy(deadline_s=1.0, **{"failures": 2, **patience})  # type: ignore[arg-type]
        return tier

    def fail(self, breakers: Breakers, tier: Tier, error: Exception) -> None:
        with pytest.raises(type(error)), breakers.watching(tier):
            raise error

    def test_it_opens_after_failures_in_a_row_and_closes_again(self) -> None:
        tier = self.rung(rest_s=0.1)
        breakers = Breakers([tier])
        self.fail(breakers, tier, errors.RemoteFailed("x"))
        with breakers.watching(tier):
            pass
        self.fail(breakers, tier, errors.TierBusy("x"))
        breakers.check(tier)
        self.fail(breakers, tier, errors.TierBusy("x"))
        with pytest.raises(errors.TierBusy, match="fake failed 2 times in a row"):
            breakers.check(tier)
        time.sleep(0.12)
        breakers.check(tier)

    @pytest.mark.parametrize(("asked", "kept"), [(40, 40), (10**6, 600)])
    def test_a_pause_the_service_asks_for_is_kept_within_reason(
        self, asked: float, kept: float
    ) -> None:
        tier = self.rung()
        breakers = Breakers([tier])
        self.fail(breakers, tier, errors.TierBusy("x", retry_after_s=asked))
        with pytest.raises(errors.TierBusy, match="asked for a pause") as caught:
            breakers.check(tier)
        assert caught.value.retry_after_s == pytest.approx(kept, abs=1)

    def test_what_is_only_left_alone_loses_no_try_for_a_while(self) -> None:
        tier = self.rung(failures=1, rest_s=9.0, forgiven_s=0.1)
        breakers = Breakers([tier])
        self.fail(breakers, tier, errors.RemoteFailed("x"))
        with pytest.raises(errors.TierBusy) as caught:
            breakers.check(tier)
        assert caught.value.unasked
        time.sleep(0.12)
        with pytest.raises(errors.TierBusy) as caught:
            breakers.check(tier)
        assert not caught.value.unasked

    def test_what_asked_nothing_is_no_failure_and_is_not_forgiven_for_ever(self) -> None:
        tier = self.rung(failures=1, forgiven_s=0.1)
        breakers = Breakers([tier])
        unasked = errors.TierBusy("x")
        unasked.unasked = True
        self.fail(breakers, tier, unasked)
        breakers.check(tier)
        assert unasked.unasked
        time.sleep(0.12)
        self.fail(breakers, tier, unasked)
        assert not unasked.unasked

    def test_a_plan_that_fails_counts_and_one_that_is_made_proves_nothing(self) -> None:
        tier = self.rung()
        breakers = Breakers([tier])
        for _ in range(2):
            with pytest.raises(errors.TierBusy), breakers.watching(tier, serves=False):
                raise errors.TierBusy("x")
            with breakers.watching(tier, serves=False):
                pass
        with pytest.raises(errors.TierBusy, match="2 times in a row"):
            breakers.check(tier)

    @pytest.mark.parametrize(
        "error",
        [errors.TierUnavailable("401"), errors.Cancelled("stop"), errors.TierFailed("bug")],
    )
    def test_what_says_nothing_of_its_health_does_not_count(self, error: Exception) -> None:
        tier = self.rung(failures=1)
        breakers = Breakers([tier])
        self.fail(breakers, tier, error)
        breakers.check(tier)

    def test_a_tier_without_a_policy_is_never_left_alone(self) -> None:
        tier = FakeTier(enabled=True)
        breakers = Breakers([tier])
        for _ in range(9):
            self.fail(breakers, tier, errors.TierBusy("x", retry_after_s=99))
        breakers.check(tier)

    def test_one_tiers_failures_are_not_anothers(self) -> None:
        tier, other = self.rung(), self.rung()
        other.id = "other"  # type: ignore[misc]
        breakers = Breakers([tier, other])
        for _ in range(2):
            self.fail(breakers, tier, errors.TierBusy("x"))
        breakers.check(other)
