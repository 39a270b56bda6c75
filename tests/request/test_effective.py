"""From what was asked to what runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_local.request import (
    ClipRequest,
    Native,
    generated_parameters,
    output_size,
    stills_parameters,
)


def _request(**fields: Any) -> ClipRequest:
    return ClipRequest(prompt="a lesson", **fields)


def test_defaults_are_the_checkpoints_and_the_designs() -> None:
    parameters, corrections = generated_parameters(_request(), Native(512, 288, 14))
    assert parameters.to_json() == {
        "frames": 14,
        "fps": 7,
        "steps": 25,
        "schedule": "karras",
        "seed": None,
        "motion": 127,
        "noise": 0.02,
        "guidance": [1.0, 3.0],
        "width": 512,
        "height": 288,
    }
    assert corrections == ()


@pytest.mark.parametrize(
    ("asked", "field", "became"),
    [
        ({"frames": 40}, "frames", 25),
        ({"frames": 2}, "frames", 14),
        ({"fps": 500}, "fps", 8),
        ({"fps": 1}, "fps", 6),
        ({"steps": 1000}, "steps", 100),
        ({"motion": 300}, "motion", 255),
        ({"noise": 3}, "noise", 1.0),
        ({"guidance": "3:1"}, "guidance", [1.0, 3.0]),
        ({"size": "1000x570"}, "size", [1000, 568]),
    ],
)
def test_out_of_range_but_clear_is_corrected_on_record(
    asked: dict[str, Any], field: str, became: Any
) -> None:
    parameters, corrections = generated_parameters(_request(**asked), Native())
    assert [c.field for c in corrections] == [field]
    assert corrections[0].to == became
    assert corrections[0].why
    if field != "size":
        assert parameters.to_json()[field] == became


@pytest.mark.parametrize(
    ("quality", "steps", "schedule"),
    [("fast", 10, "align-your-steps"), ("standard", 25, "karras"), ("high", 30, "karras")],
)
def test_quality_sets_steps_and_schedule(quality: str, steps: int, schedule: str) -> None:
    parameters, _ = generated_parameters(_request(quality=quality), Native())
    assert (parameters.steps, parameters.schedule) == (steps, schedule)


def test_steps_given_by_the_user_keep_the_ordinary_schedule() -> None:
    parameters, _ = generated_parameters(_request(quality="fast", steps=12), Native())
    assert (parameters.steps, parameters.schedule) == (12, "karras")


@pytest.mark.parametrize(
    ("asked", "frames", "fps", "corrected"),
    [
        ({"duration": 3.0}, 21, 7, False),
        ({"duration": 3.0, "fps": 8}, 24, 8, False),
        ({"duration": 3.0, "frames": 18}, 18, 6, False),
        ({"duration": 60.0}, 25, 7, True),
        ({"duration": 0.1}, 14, 7, True),
    ],
)
def test_a_duration_becomes_frames(
    asked: dict[str, Any], frames: int, fps: int, corrected: bool
) -> None:
    parameters, corrections = generated_parameters(_request(**asked), Native())
    assert (parameters.frames, parameters.fps) == (frames, fps)
    assert [c.field for c in corrections] == (["duration"] if corrected else [])


@given(
    frames=st.none() | st.integers(2, 10**6),
    fps=st.none() | st.integers(1, 10**6),
    duration=st.none() | st.floats(1e-3, 1e6),
    width=st.integers(64, 2048),
    height=st.integers(64, 2048),
)
def test_what_runs_is_always_in_range(
    frames: int | None, fps: int | None, duration: float | None, width: int, height: int
) -> None:
    request = _request(frames=frames, fps=fps, duration=duration, size=(width, height))
    parameters, _ = generated_parameters(request, Native())
    assert 14 <= parameters.frames <= 25
    assert 6 <= parameters.fps <= 8
    assert parameters.width % 8 == parameters.height % 8 == 0
    stills, _ = stills_parameters(request)
    assert stills.frames == round(stills.duration_s * 24)
    assert stills.width % 2 == stills.height % 2 == 0


def test_stills_last_four_seconds_at_24_fps() -> None:
    stills, corrections = stills_parameters(_request(resolution="1080p"))
    assert (stills.frames, stills.fps, stills.duration_s) == (96, 24, 4.0)
    assert (stills.width, stills.height) == (1920, 1080)
    assert corrections == ()


def test_stills_put_on_record_what_does_not_bind_them() -> None:
    _, corrections = stills_parameters(_request(frames=14, fps=7, steps=25, motion=200))
    assert [(c.field, c.to) for c in corrections] == [
        ("frames", None),
        ("fps", None),
        ("steps", None),
        ("motion", None),
    ]


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [
        ((1024, 576), "native", (1024, 576)),
        ((1024, 576), "720p", (1280, 720)),
        ((1024, 576), "1080p", (1920, 1080)),
        ((576, 1024), "720p", (720, 1280)),
        ((256, 144), "1080p", (1920, 1080)),
        ((1000, 568), "720p", (1268, 720)),
    ],
)
def test_output_sizes_keep_the_shape_and_are_even(
    size: tuple[int, int], resolution: str, expected: tuple[int, int]
) -> None:
    assert output_size(size, resolution) == expected


LOCAL = Native(cache_depths=11)


@pytest.mark.parametrize(
    ("asked", "runs", "corrected"),
    [
        ({}, (3, 1), []),
        ({"cache_interval": 1, "cache_depth": 11}, (1, 11), []),
        ({"cache_interval": 99, "cache_depth": 12}, (10, 11), ["cache_interval", "cache_depth"]),
    ],
)
def test_caching_keeps_to_its_ranges(
    asked: dict[str, Any], runs: tuple[int, int], corrected: list[str]
) -> None:
    parameters, corrections = generated_parameters(_request(speed="cached", **asked), LOCAL)
    assert (parameters.cache_interval, parameters.cache_depth) == runs
    assert [c.field for c in corrections] == corrected
    assert parameters.to_json()["cache_interval"] == runs[0]


@pytest.mark.parametrize("speed", ["exact", "distilled"])
def test_only_what_caches_has_an_interval(speed: str) -> None:
    parameters, corrections = generated_parameters(_request(speed=speed, cache_depth=2), LOCAL)
    assert [(c.field, c.from_, c.to) for c in corrections] == [("cache_depth", 2, None)]
    assert "cache_depth" not in parameters.to_json()


@pytest.mark.parametrize(
    ("asked", "runs", "corrected"),
    [
        ({}, (4, 80, (1.0, 1.2)), []),
        ({"quality": "fast"}, (4, 80, (1.0, 1.2)), []),
        ({"steps": 8, "motion": 127, "guidance": "1"}, (8, 127, (1.0, 1.0)), []),
        ({"steps": 25, "guidance": "1:3"}, (8, 80, (1.0, 1.5)), ["steps", "guidance"]),
        ({"guidance": "1.4:1.1"}, (4, 80, (1.1, 1.4)), ["guidance"]),
    ],
)
def test_a_distilled_checkpoint_has_its_own_usual_values(
    asked: dict[str, Any], runs: tuple[int, int, tuple[float, float]], corrected: list[str]
) -> None:
    parameters, corrections = generated_parameters(_request(speed="distilled", **asked), LOCAL)
    assert (parameters.steps, parameters.motion, parameters.guidance) == runs
    assert parameters.schedule == "consistency"
    assert [c.field for c in corrections] == corrected


def test_who_runs_nothing_here_puts_speeds_on_record() -> None:
    request = _request(speed="distilled", cache_interval=2)
    parameters, corrections = generated_parameters(request, Native())
    assert [(c.field, c.from_, c.to) for c in corrections] == [
        ("speed", "distilled", None),
        ("cache_interval", 2, None),
    ]
    assert (parameters.steps, parameters.schedule) == (25, "karras")
