"""The moves as they are seen: Gaussian blobs in a picture are tracked through rendered frames."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from svd_local.media.planar import planes
from svd_local.tiers.stills import camera
from svd_local.tiers.stills.easing import ramped, smoothstep
from svd_local.tiers.stills.render import render, working_size
from svd_local.tiers.stills.timeline import timeline

FRAME = (256, 144)
PICTURE = working_size(*FRAME)
COUNT, FPS = 72, 24
SIGMA = 4.0
BLOBS = [(112.3, 72.1), (191.7, 63.4), (160.2, 117.9)]
MOVES = {m.name: m for seed in range(60) for m in camera.choose_moves(1, seed)}


@pytest.fixture(scope="module")
def blobs():
    y, x = np.mgrid[: PICTURE[1], : PICTURE[0]] + 0.5
    light = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * SIGMA**2)) for cx, cy in BLOBS)
    return Image.fromarray(np.rint(250 * light).astype(np.uint8)).convert("RGB")


def centroid(frame, near):
    """Centre of the light around ``near``, in pixels from the frame's upper left corner."""
    radius = 18
    left, top = (round(v) - radius for v in near)
    part = frame[top : top + 2 * radius, left : left + 2 * radius].astype(float) - 16
    ys, xs = np.mgrid[top : top + 2 * radius, left : left + 2 * radius] + 0.5
    return np.array([(xs * part).sum(), (ys * part).sum()]) / part.sum()


def intended(box, blob):
    left, top, right, bottom = box
    return np.array(
        [
            (blob[0] - left) / (right - left) * FRAME[0],
            (blob[1] - top) / (bottom - top) * FRAME[1],
        ]
    )


def track(picture, shots):
    """Where the blobs were meant to be and where they are: two arrays (frames, blobs, 2)."""
    meant, seen = [], []
    for number, frame in enumerate(render([picture], shots, COUNT, FRAME)):
        box = shots[0].window(number).in_pixels(*PICTURE)
        meant.append([intended(box, blob) for blob in BLOBS])
        seen.append([centroid(planes(frame[0])[0], where) for where in meant[-1]])
    return np.array(meant), np.array(seen)


def test_all_moves_are_drawn():
    assert set(MOVES) == set(camera.MOVES)


@pytest.mark.parametrize("name", camera.MOVES)
def test_every_frame_is_within_a_tenth_of_a_pixel_of_the_path(name, blobs):
    meant, seen = track(blobs, timeline([MOVES[name]], COUNT, FPS))
    assert np.abs(seen - meant).max() < 0.1
    steps_meant, steps_seen = np.diff(meant, axis=0), np.diff(seen, axis=0)
    assert np.abs(steps_seen - steps_meant).max() < 0.1
    assert np.abs(meant[-1] - meant[0]).max() > 5


def test_the_ruler_would_see_whole_pixel_steps(blobs):
    """The same move with its window rounded, as a naive crop does it, fails the test above."""

    class Rounded:
        def __init__(self, shot):
            self.shot = shot

        def __getattr__(self, name):
            return getattr(self.shot, name)

        def window(self, frame):
            exact = self.shot.window(frame)
            width, height = PICTURE
            return dataclasses.replace(
                exact,
                left=round(exact.left * width) / width,
                top=round(exact.top * height) / height,
                right=round(exact.right * width) / width,
                bottom=round(exact.bottom * height) / height,
            )

    shots = timeline([MOVES["zoom-in"]], COUNT, FPS)
    meant, _ = track(blobs, shots)
    _, seen = track(blobs, [Rounded(shots[0])])
    assert np.abs(seen - meant).max() > 0.2


@pytest.mark.parametrize("name", camera.MOVES)
def test_the_seen_motion_starts_and_stops_gently_and_is_even_between(name, blobs):
    _, seen = track(blobs, timeline([MOVES[name]], COUNT, FPS))
    farthest = np.abs(seen[-1] - seen[0]).max(axis=1).argmax()
    speed = np.hypot(*np.diff(seen[:, farthest], axis=0).T)
    middle = speed[len(speed) // 3 : -len(speed) // 3]
    assert speed[0] < 0.2 * middle.mean()
    assert speed[-1] < 0.2 * middle.mean()
    # A zoom by equal factors moves points somewhat faster as it nears; whole-pixel steps would make
    # the speed jump by a pixel a frame. 0.03 is what the tracker itself is unsure of.
    assert middle.max() < 1.15 * middle.min() + 0.03
    assert np.abs(np.diff(speed)).max() < 0.15 * middle.mean() + 0.03


@pytest.mark.parametrize("name", ["zoom-in", "zoom-out"])
def test_a_zoom_grows_by_equal_factors(name):
    sides = [1 / (w.right - w.left) for w in map(MOVES[name].at, np.linspace(0, 1, 9))]
    factors = np.divide(sides[1:], sides[:-1])
    assert np.ptp(factors) < 1e-9
    assert max(sides) == pytest.approx(camera.MAX_ZOOM)
    assert min(sides) == pytest.approx(1.0)


def test_pans_go_where_their_names_say():
    def travel(name):
        move = MOVES[name]
        return np.sign([move.end.left - move.start.left, move.end.top - move.start.top]).tolist()

    assert travel("pan-left") == [-1, 0]
    assert travel("pan-right") == [1, 0]
    assert travel("pan-up") == [0, -1]


@given(
    seed=st.integers(0, 2**63 - 1),
    pictures=st.integers(1, 20),
    progress=st.floats(0, 1),
    seconds=st.floats(0.01, 60),
)
def test_no_window_leaves_the_picture_or_its_shape(seed, pictures, progress, seconds):
    moves = camera.choose_moves(pictures, seed)
    assert moves == camera.choose_moves(pictures, seed)
    assert all(a.name != b.name for a, b in itertools.pairwise(moves))
    for move in moves:
        left, top, right, bottom = move.lasting(seconds).at(progress).in_pixels(1280, 720)
        assert 0 <= left < right <= 1280
        assert 0 <= top < bottom <= 720
        assert (right - left) / 1280 == pytest.approx((bottom - top) / 720)
        assert 1280 / (right - left) <= camera.MAX_ZOOM + 1e-9


def test_a_short_shot_goes_part_of_the_way_at_the_same_speed():
    move = MOVES["pan-right"]
    part = move.lasting(camera.FULL_TRAVEL_S / 4)
    assert part.end.left - part.start.left == pytest.approx((move.end.left - move.start.left) / 4)
    assert move.lasting(60) == move


@given(
    t=st.floats(0, 1), ahead=st.floats(0, 1), ramps=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))
)
def test_progress_never_falls_and_keeps_its_ends(t, ahead, ramps):
    here, there = ramped(t, *ramps), ramped(t + ahead * (1 - t), *ramps)
    assert 0 <= here <= there + 1e-12 <= 1 + 1e-9
    assert ramped(0, *ramps) == pytest.approx(0, abs=1e-12)
    assert ramped(1, *ramps) == pytest.approx(1)


def test_easing_has_no_jolt_and_a_constant_middle():
    speed = np.diff([ramped(t, 0.25, 0.25) for t in np.linspace(0, 1, 401)]) * 400
    assert speed[0] < 0.01
    assert speed[-1] < 0.01
    assert np.ptp(speed[101:299]) < 1e-6
    assert np.abs(np.diff(speed)).max() < 0.03


def test_ramps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        ramped(0.5, 0.6, 0.6)


def test_smoothstep_is_level_at_both_ends_and_held_outside():
    assert [smoothstep(t) for t in (-1, 0, 0.5, 1, 2)] == [0, 0, 0.5, 1, 1]
    assert smoothstep(0.001) < 0.00001
