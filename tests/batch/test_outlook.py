from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svd_local.batch.forecast import Forecast
from svd_local.batch.outlook import Foresight
from svd_local.batch.pace import Hands, Pace
from svd_local.engine.checkpoint import Checkpoint
from svd_local.engine.session import ways_of
from svd_local.errors import CheckpointUnknown, InvalidRequest, TierUnavailable
from svd_local.generator import VideoGenerator
from svd_local.request import ClipRequest
from svd_local.settings import Settings
from svd_local.tiers import gpus, local
from svd_local.tiers.local import LocalTier


@pytest.fixture(autouse=True)
def _cpu_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpus, "list_gpus", list)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))


@pytest.fixture
def of(settings: Settings) -> Callable[..., Any]:
    foresight = Foresight(settings)
    return lambda **fields: foresight.of(ClipRequest(**{"prompt": "a", **fields}))


def test_without_a_gpu_it_is_animated_stills_and_says_why(of) -> None:
    outlook = of()
    assert (outlook.tier, outlook.kind, outlook.pace) == (
        "image-sequence",
        "animated-stills",
        None,
    )
    assert [why.partition(":")[0] for why in outlook.passed_over] == [
        "local",
        "huggingface",
        "webui",
    ]
    assert outlook.problem is None


def test_the_local_tier_tells_memory(of) -> None:
    outlook = of(checkpoint="tiny-svd", device="cpu", frames=14)
    assert (outlook.tier, outlook.checkpoint, outlook.speed) == ("local", "tiny-svd", "exact")
    assert outlook.memory.predicted_peak_bytes > 10_000_000
    assert outlook.memory.plan
    assert outlook.licence is None


def test_memory_is_foreseen_at_the_depth_that_was_asked_for(
    of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    depths = []

    def seen(engine: Any, blueprint: Any, sampling: Any, **limits: Any) -> Any:
        depths.append(sampling.caching.depth)
        return ways_of(engine, blueprint, sampling, **limits)

    monkeypatch.setattr(local, "ways_of", seen)
    of(checkpoint="tiny-svd", device="cpu", speed="cached", cache_depth=3)
    assert set(depths) == {3}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"checkpoint": "svdd"}, CheckpointUnknown),
        ({"tier": "local"}, TierUnavailable),
        ({"checkpoint": "tiny-svd"}, TierUnavailable),
        ({"tier": "huggingface"}, TierUnavailable),
        ({"tier": "placeholder"}, InvalidRequest),
        ({"speed": "fp8", "device": "cpu"}, InvalidRequest),
        ({"checkpoint": "tiny-svd", "device": "cpu", "vram_budget": "1MiB"}, InvalidRequest),
    ],
)
def test_what_cannot_be_made_here(of, fields: dict[str, Any], error: type[Exception]) -> None:
    assert isinstance(of(**fields).problem, error)


def test_a_checkpoint_that_may_be_pulled_is_no_problem(settings: Settings) -> None:
    may = settings.model_copy(update={"allow_download": True})
    outlook = Foresight(may).of(ClipRequest(prompt="a", checkpoint="svd-xt", device="cpu"))
    assert (outlook.tier, outlook.checkpoint, outlook.problem) == ("local", "svd-xt", None)
    assert "downloaded first" in outlook.passed_over[0]


class _Licensed(LocalTier):
    """The local tier, were the tiny checkpoint a published one."""

    def checkpoint(self, request: ClipRequest) -> Checkpoint:
        return dataclasses.replace(super().checkpoint(request), licence="terms")


def test_licences_are_told_once(settings: Settings) -> None:
    foresight = Foresight(settings, [_Licensed(models_dir=settings.models_dir)])
    forecast = Forecast()
    for prompt in ("a", "b"):
        request = ClipRequest(prompt=prompt, checkpoint="tiny-svd", device="cpu")
        forecast.add(foresight.of(request), 3)
    assert forecast.licences == {"tiny-svd": "terms"}
    assert forecast.clips == 6


def test_what_was_made_before_tells_time_and_size(settings: Settings) -> None:
    with VideoGenerator(settings) as generator:
        made = generator.generate(prompt="a", tier="fake")
    outlook = Foresight(settings).of(ClipRequest(prompt="b", tier="fake"))
    assert outlook.pace.work_s == pytest.approx(made.elapsed_s, abs=0.2)
    assert 0 < outlook.pace.turn_s < outlook.pace.work_s
    assert outlook.bytes_measured
    forecast = Forecast(Hands(lanes=1))
    forecast.add(outlook, 10)
    assert forecast.seconds == pytest.approx(10 * outlook.pace.work_s)
    document = forecast.to_json(settings.media_dir)
    assert document["groups"][0]["clips"] == 10
    assert document["free_bytes"] > 0


@pytest.mark.parametrize(
    ("clips", "hands", "seconds"),
    [
        (7, Hands(lanes=1), 20 + 7 * 12),
        (
            7,
            Hands(),
            20 + 12 + 6 * 10,
        ),  # the turns follow one another, the last clip's rest after them
        (1, Hands(), 20 + 12),
        (7, Hands(workers=3), 20 + 12 + 2 * 10),
        (1, Hands(workers=3), 20 + 12),
        (0, Hands(), 0),
    ],
)
def test_the_pace_of_a_batch(clips: int, hands: Hands, seconds: float) -> None:
    assert Pace(work_s=12, turn_s=10, load_s=20).whole_s(clips, hands) == seconds


def test_the_lanes_may_be_what_is_slowest() -> None:
    assert Pace(work_s=12, turn_s=2).each_s(lanes=2) == 6
    assert Pace(work_s=12, turn_s=2).each_s(lanes=4) == 3


def test_one_unknown_kind_makes_the_time_unknown(of) -> None:
    forecast = Forecast()
    assert forecast.seconds is None
    forecast.add(of(), 1)
    assert forecast.seconds is None
    assert forecast.bytes > 0


def test_larger_clips_take_more_room(of) -> None:
    assert of(resolution="1080p").bytes > 2 * of().bytes
    assert of(quality="high").bytes > of(quality="fast").bytes


def test_many_kinds_are_asked_about_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    foresight = Foresight(settings)
    asked = 0
    look = foresight._look

    def counting(request: ClipRequest) -> Any:
        nonlocal asked
        asked += 1
        return look(request)

    monkeypatch.setattr(foresight, "_look", counting)
    for n in range(1000):
        foresight.of(ClipRequest(prompt="a", duration=1 + n / 500, seed=n))
        foresight.of(ClipRequest(prompt="b", duration=1 + n / 500))
    assert asked == 300
    assert foresight.of(ClipRequest(prompt="a", tier="local")).problem is not None
