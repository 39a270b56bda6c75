"""Cross-fades: when they happen, that nothing stands still in them, and what light they let through."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from svd_local.media.planar import planes, to_rgb
from svd_local.tiers.stills.camera import choose_moves
from svd_local.tiers.stills.render import draw, render
from svd_local.tiers.stills.still import Still
from svd_local.tiers.stills.timeline import FADE_S, timeline, visible

FPS = 24
FRAME = (64, 36)


def shots_of(pictures, frames):
    return timeline(choose_moves(pictures, 3), frames, FPS)


def flat(colour):
    return Still(Image.new("RGB", (80, 45), colour))


def code(light):
    """The sRGB level of so much light (IEC 61966-2-1)."""
    bent = 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055
    return 255 * bent


@given(pictures=st.integers(1, 20), frames=st.integers(2, 1440))
def test_shots_fill_the_clip_and_overlap_by_their_fades(pictures, frames):
    shots = shots_of(pictures, frames)
    assert shots[0].start == 0
    assert shots[-1].end == frames - 1
    for before, after in itertools.pairwise(shots):
        assert before.end - after.start == pytest.approx(after.fade_in)
        assert after.fade_in == before.fade_out <= FADE_S * FPS
        assert before.start + before.fade_in <= after.start + 1e-6
    for frame in (0, frames // 2, frames - 1):
        seen = visible(shots, frame)
        assert 1 <= len(seen) <= 2
        assert all(shot.start <= frame <= shot.end + 1e-6 for shot in seen)


def test_each_picture_has_its_turn_alone():
    shots = shots_of(3, 96)
    alone = [seen[0].picture for n in range(96) if len(seen := visible(shots, n)) == 1]
    assert [alone.count(picture) > 8 for picture in range(3)] == [True] * 3
    assert alone == sorted(alone)


def test_both_pictures_keep_moving_through_a_fade():
    shots = shots_of(2, 96)
    fading = [n for n in range(96) if len(visible(shots, n)) == 2]
    assert len(fading) > 12
    for shot in shots:
        steps = [
            np.subtract(
                shot.window(n + 1).in_pixels(1280, 720), shot.window(n).in_pixels(1280, 720)
            )
            for n in fading[:-1]
        ]
        farthest = np.abs(steps).max(axis=1)
        assert farthest.min() > 0.5
        assert farthest.max() < 1.3 * farthest.min()


def test_a_fade_rises_evenly_from_nothing_to_all():
    after = shots_of(2, 96)[1]
    opacity = [after.opacity(after.start + part * after.fade_in) for part in np.linspace(0, 1, 21)]
    assert (opacity[0], opacity[10], opacity[20]) == (0.0, pytest.approx(0.5), 1.0)
    assert np.diff(opacity).min() > 0
    assert opacity[1] < 0.01


def test_the_light_of_a_fade_is_between_the_pictures_in_proportion():
    shots = shots_of(2, 96)
    pictures = [flat((255, 0, 120)), flat((0, 255, 120))]
    for number in range(96):
        frame = to_rgb(draw(pictures, shots, number, FRAME))
        share = 0.0 if number < shots[1].start else shots[1].opacity(number)
        red, green, blue = map(int, frame[0, 0])
        assert red == pytest.approx(code(1 - share), abs=2)
        assert green == pytest.approx(code(share), abs=2)
        assert blue == pytest.approx(120, abs=2)


@pytest.mark.parametrize("level", [*range(0, 40, 3), 99, 128, 187, 254, 255])
def test_a_picture_fading_into_its_like_does_not_flicker(level):
    shots = shots_of(2, 48)
    fading = [n for n in range(48) if len(visible(shots, n)) == 2]
    assert len(fading) > 5
    for number in fading:
        frame = draw([flat((level,) * 3)] * 2, shots, number, FRAME)
        luma, *chroma = planes(frame)
        assert (luma == round(16 + 219 * level / 255)).all()
        assert (np.array(chroma) == 128).all()


def test_no_frame_repeats_the_one_before_it():
    noise = np.random.default_rng(0).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    pictures = [Image.fromarray(noise), Image.fromarray(noise[::-1].copy())]
    frames = np.concatenate(list(render(pictures, shots_of(2, 60), 60, FRAME)))
    changes = np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2))
    assert changes.min() > 0.02


@pytest.mark.parametrize(("pictures", "frames"), [(0, 24), (1, 1)])
def test_nothing_to_show_is_refused(pictures, frames):
    with pytest.raises(ValueError, match="make no sequence"):
        timeline(choose_moves(pictures, 3), frames, FPS)
