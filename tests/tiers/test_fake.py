import time

import numpy as np
import pytest
from PIL import Image

from svd_local.errors import (
    BadOutput,
    Cancelled,
    InvalidRequest,
    OutOfMemory,
    TierBusy,
    TierFailed,
    TierUnavailable,
)
from svd_local.keyframe.types import Keyframe
from svd_local.request import ClipRequest
from svd_local.testing import FakeTier
from svd_local.tiers.base import Job, Monitor

KEYFRAME = Keyframe(Image.new("RGB", (256, 144)), "0" * 64, "picture")


def make(tier, seed=7, monitor=None, **fields):
    request = ClipRequest(prompt="x", tier="fake", **fields)
    plan = tier.plan(request).seeded(seed)
    return tier.generate(Job(request, plan, (KEYFRAME,), monitor or Monitor()))


def pixels(frames):
    return np.concatenate(list(frames.chunks))


def ending(tier):
    try:
        make(tier)
    except TierFailed as error:
        return type(error)
    except TierBusy as error:
        return type(error)
    return None


def test_it_must_be_enabled_on_purpose():
    tier = FakeTier(enabled=False)
    assert not tier.availability().available
    with pytest.raises(TierUnavailable) as caught:
        tier.plan(ClipRequest(prompt="x"))
    assert "SVD_LOCAL_ENABLE_FAKE_TIER=1" in caught.value.hint


def test_its_clips_never_pass_for_real_ones():
    plan = FakeTier(enabled=True).plan(ClipRequest(prompt="x"))
    assert (plan.tier, plan.kind, plan.synthetic) == ("fake", "generated", True)
    assert plan.parameters["seed"] is None


def test_it_plans_sizes_and_corrections_as_a_checkpoint_would():
    plan = FakeTier(enabled=True).plan(
        ClipRequest(prompt="x", frames=40, size=(130, 80), resolution="720p")
    )
    assert (plan.parameters["frames"], plan.size) == (25, (128, 80))
    assert plan.output_size[1] == 720
    assert [c.field for c in plan.corrections] == ["frames", "size"]


def test_frames_are_as_planned_move_and_depend_on_the_seed_alone():
    tier = FakeTier(enabled=True)
    frames = make(tier)
    first = pixels(frames)
    assert first.shape == (frames.count, frames.height, frames.width, 3) == (14, 144, 256, 3)
    assert first.dtype == np.uint8
    assert np.abs(np.diff(first.astype(int), axis=0)).mean((1, 2, 3)).min() > 1
    assert first.std() > 30
    assert np.array_equal(first, pixels(make(tier)))
    assert not np.array_equal(first, pixels(make(tier, seed=8)))


@pytest.mark.parametrize(
    ("script", "endings"),
    [
        ("", [None, None]),
        ("2", [TierFailed, TierFailed, None]),
        ("busy*2, failed", [TierBusy, TierBusy, TierFailed, None]),
        ("ok,out-of-memory,bad-output", [None, OutOfMemory, BadOutput, None]),
    ],
)
def test_a_script_says_how_clips_end_and_after_it_all_succeed(script, endings):
    tier = FakeTier(enabled=True, failures=script)
    assert [ending(tier) for _ in endings] == endings


def test_busy_says_when_to_try_again():
    with pytest.raises(TierBusy) as caught:
        make(FakeTier(enabled=True, failures="busy"))
    assert caught.value.retry_after_s == 30


@pytest.mark.parametrize("script", ["busyy", "2x", "busy*", "-1", "busy failed", "ok;ok"])
def test_a_script_that_means_nothing_is_refused(script):
    with pytest.raises(InvalidRequest) as caught:
        FakeTier(enabled=True, failures=script)
    assert caught.value.field == "SVD_LOCAL_FAKE_FAILURES"
    assert "bad-output" in caught.value.hint


def test_a_clip_takes_its_time_and_reports_every_step():
    seen = []
    started = time.monotonic()
    make(FakeTier(enabled=True, seconds=0.1), steps=4, monitor=Monitor(seen.append))
    assert time.monotonic() - started >= 0.1
    assert [(p.stage, p.done, p.total) for p in seen] == [("denoise", n, 4) for n in range(5)]


def test_a_cancelled_clip_stops_long_before_its_step_is_over():
    started = time.monotonic()
    monitor = Monitor(None, lambda: time.monotonic() - started > 0.1)
    with pytest.raises(Cancelled):
        make(FakeTier(enabled=True, seconds=60), steps=1, monitor=monitor)
    assert time.monotonic() - started < 5
