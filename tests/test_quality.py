"""The meter tells sound clips from broken ones, and never blames a clip for its picture."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from svd_local.quality import QualityMeter
from svd_local.result import Quality

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
WIDTH, HEIGHT = 256, 144


def picture(seed: int, width: int = WIDTH + 64, height: int = HEIGHT + 36) -> Pixels:
    """Blobs of colour, large and small: as much structure as a photograph, and no two alike."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((4, 0.6), (10, 0.3), (40, 0.1)):
        coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += weight * np.asarray(fine, np.float32)
    return np.clip((total - 128) * 1.6 + 128, 0, 255).astype(np.uint8)


def pan(source: Pixels, count: int = 14, pixels: int = 2) -> Pixels:
    """A window that moves over ``source``, ``pixels`` a frame."""
    return np.stack(
        [source[10 : 10 + HEIGHT, i * pixels : i * pixels + WIDTH] for i in range(count)]
    )


def noisy(frames: Pixels, sigma: float, seed: int = 0) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, sigma, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def judge(frames: Pixels, keyframe: Any = None) -> tuple[Quality, tuple[str, ...]]:
    meter = QualityMeter(keyframe)
    meter.feed(frames[:5])
    meter.feed(frames[5:])
    return meter.finish()


def failed(quality: Quality) -> set[str]:
    return {name for name, check in quality.checks.items() if not check["passed"]}


SOUND = pan(picture(1))
KEYFRAME = Image.fromarray(SOUND[0])


@pytest.mark.parametrize("seed", range(6))
def test_a_sound_clip_passes(seed: int) -> None:
    frames = pan(picture(seed))
    quality, warnings = judge(noisy(frames, 6), Image.fromarray(frames[0]))
    assert quality.passed
    assert warnings == ()
    assert failed(quality) == set()


def test_every_check_tells_what_it_measured() -> None:
    quality, _ = judge(SOUND, KEYFRAME)
    assert set(quality.checks) == {
        "not_black", "not_flat", "like_keyframe", "no_flash", "no_jump", "not_blown_out",
        "not_noise", "moves",
    }  # fmt: skip
    for check in quality.checks.values():
        assert set(check) == {"value", "threshold", "passed", "grade"}
        assert isinstance(check["value"], float)
        assert isinstance(check["threshold"], float)
        assert isinstance(check["passed"], bool)


def test_a_black_frame_fails() -> None:
    frames = SOUND.copy()
    frames[9] = 0
    quality, warnings = judge(frames, KEYFRAME)
    assert not quality.passed
    assert {"not_black", "not_flat", "no_flash"} <= failed(quality)
    assert any("black" in warning for warning in warnings)


def test_an_all_black_clip_fails() -> None:
    quality, _ = judge(np.zeros_like(SOUND), KEYFRAME)
    assert {"not_black", "not_flat", "like_keyframe", "moves"} <= failed(quality)


def test_a_single_colour_fails_even_with_noise() -> None:
    quality, _ = judge(noisy(np.full_like(SOUND, 120), 6), KEYFRAME)
    assert "not_flat" in failed(quality)
    assert "like_keyframe" in failed(quality)


def test_a_still_is_a_warning_only() -> None:
    quality, warnings = judge(noisy(np.repeat(SOUND[:1], 14, axis=0), 3), KEYFRAME)
    assert quality.passed
    assert failed(quality) == {"moves"}
    assert quality.checks["moves"]["grade"] == "warning"
    assert "nothing moves" in warnings[0]


def test_the_slowest_camera_moves() -> None:
    """Half a pixel a frame at 24 frames a second."""
    frames = pan(picture(1), count=24, pixels=1)[::2]
    assert judge(frames)[0].checks["moves"]["passed"]


@pytest.mark.parametrize("seed", range(2, 8))
def test_another_picture_than_the_keyframe_fails(seed: int) -> None:
    quality, warnings = judge(SOUND, Image.fromarray(picture(seed)[:HEIGHT, :WIDTH]))
    assert failed(quality) == {"like_keyframe"}
    assert not quality.passed
    assert "does not look like the picture" in warnings[0]


@pytest.mark.parametrize("zoom", [1.05, 1.15, 1.25])
@pytest.mark.parametrize("place", [0.0, 0.3, 1.0])
def test_a_camera_may_begin_inside_the_keyframe(zoom: float, place: float) -> None:
    width, height = WIDTH / zoom, HEIGHT / zoom
    left, top = (WIDTH - width) * place, (HEIGHT - height) * place
    start = KEYFRAME.resize(
        (WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=(left, top, left + width, top + height)
    )
    frames = np.concatenate([np.asarray(start)[None], SOUND])
    assert judge(frames, KEYFRAME)[0].checks["like_keyframe"]["passed"]


def test_the_keyframe_may_be_of_another_size() -> None:
    quality, _ = judge(SOUND, KEYFRAME.resize((1024, 576)))
    assert quality.checks["like_keyframe"]["value"] > 0.95


def test_without_a_keyframe_there_is_nothing_to_be_like() -> None:
    quality, _ = judge(SOUND)
    assert quality.passed
    assert "like_keyframe" not in quality.checks


def test_without_a_keyframe_black_is_black() -> None:
    black = np.zeros_like(SOUND)
    quality, warnings = judge(black)
    assert {"not_black", "not_flat"} <= failed(quality)
    assert "a frame is black" in warnings[0]
    assert failed(judge(noisy(black, 3))[0]) >= {"not_black"}
    assert "not_black" not in failed(judge(black, Image.fromarray(black[0]))[0])


@pytest.mark.parametrize("frame", [1, 7, 12])
def test_a_flash_fails(frame: int) -> None:
    frames = SOUND.copy()
    frames[frame] = np.clip(frames[frame].astype(int) + 40, 0, 255)
    assert failed(judge(frames, KEYFRAME)[0]) >= {"no_flash"}


def test_flicker_fails() -> None:
    frames = SOUND.astype(int)
    frames[::2] += 15
    assert "no_flash" in failed(judge(np.clip(frames, 0, 255).astype(np.uint8), KEYFRAME)[0])


def test_a_slow_fade_is_no_flash() -> None:
    gain = np.linspace(1, 0.4, 14)[:, None, None, None]
    assert judge((SOUND * gain).astype(np.uint8), KEYFRAME)[0].passed


def test_a_cut_to_something_else_fails() -> None:
    frames = np.concatenate([SOUND[:8], pan(picture(4))[:6]])
    assert "no_jump" in failed(judge(frames, KEYFRAME)[0])


def test_a_cross_fade_does_not() -> None:
    a, b = pan(picture(1), 24).astype(np.float32), pan(picture(4), 24).astype(np.float32)
    mix = np.clip((np.arange(24) - 6) / 12, 0, 1)[:, None, None, None]
    quality, warnings = judge((a * (1 - mix) + b * mix).astype(np.uint8), KEYFRAME)
    assert quality.passed, warnings


def test_frames_that_dissolve_into_noise_fail() -> None:
    sigma = np.linspace(0, 120, 14)[:, None, None, None]
    noise = np.random.default_rng(0).normal(0, 1, SOUND.shape) * sigma
    quality, warnings = judge(np.clip(SOUND + noise, 0, 255).astype(np.uint8), KEYFRAME)
    assert "not_noise" in failed(quality)
    assert any("noise" in warning for warning in warnings)


def test_pure_noise_fails() -> None:
    frames = np.random.default_rng(0).integers(0, 256, SOUND.shape, dtype=np.uint8)
    assert {"not_noise", "like_keyframe"} <= failed(judge(frames, KEYFRAME)[0])


def test_exploding_colours_fail() -> None:
    gain = np.linspace(1, 12, 14)[:, None, None, None]
    frames = np.clip((SOUND.astype(np.float32) - 128) * gain + 128, 0, 255).astype(np.uint8)
    assert "not_blown_out" in failed(judge(frames, KEYFRAME)[0])


def night() -> Pixels:
    return (picture(3) * 0.06).astype(np.uint8)


def fog() -> Pixels:
    return (200 + (picture(3).astype(np.float32) - 128) * 0.03).astype(np.uint8)


def slide() -> Pixels:
    """Dark bars on white: four fifths of it are full white."""
    page = np.full((HEIGHT + 36, WIDTH + 64, 3), 255, np.uint8)
    page[40:60, 30:160] = (20, 40, 90)
    page[80:100, 30:220] = (20, 40, 90)
    return page


def grille() -> Pixels:
    page = np.full((HEIGHT + 36, WIDTH + 64, 3), 230, np.uint8)
    page[:, ::4] = 30
    page[60:120, 80:200] = (200, 30, 30)
    return page


@pytest.mark.parametrize("source", [night, fog, slide, grille])
def test_a_clip_is_not_to_blame_for_its_picture(source: Any) -> None:
    frames = pan(source())
    for keyframe in (Image.fromarray(frames[0]), None):
        quality, warnings = judge(frames, keyframe)
        assert quality.passed, warnings


def test_no_frames_is_no_clip() -> None:
    quality, warnings = QualityMeter(KEYFRAME).finish()
    assert not quality.passed
    assert warnings == ("there are no frames",)


def test_one_frame_is_judged_too() -> None:
    quality, _ = judge(SOUND[:1], KEYFRAME)
    assert failed(quality) == {"moves"}


def test_nothing_is_kept_of_the_frames_fed() -> None:
    """An array may be filled again."""
    meter = QualityMeter(KEYFRAME)
    buffer = np.empty((1, HEIGHT, WIDTH, 3), np.uint8)
    for frame in SOUND:
        buffer[0] = frame
        meter.feed(buffer)
    assert meter.finish() == judge(SOUND, KEYFRAME)


def test_it_costs_little_at_1080p() -> None:
    """Under 5 ms a frame are meant; the best of a few keeps a busy machine from failing this."""
    frame = np.random.default_rng(0).integers(0, 256, (1, 1080, 1920, 3), dtype=np.uint8)
    meter = QualityMeter()
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        meter.feed(frame)
        best = min(best, time.perf_counter() - began)
    assert best < 0.005
