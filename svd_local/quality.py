"""Is this clip any good? Checks that catch failures; they do not grade beauty.

A clip that passes shows something, moves, starts like its keyframe, and does not flash, tear or dissolve
into noise. Whether it is pleasant, or true to the lesson, no number here can say.

Frames are looked at as they pass, on thumbnails of 96x54, and not kept. Every check reports what it
measured and the threshold it was held to; where the keyframe itself is dark, flat, glaring or grainy, the
threshold gives way to it, for a clip is not to blame for its picture. A clip without one is held to less,
but what is black, or of one colour, is so by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from PIL import Image

from svd_local.media.planar import to_rgb
from svd_local.result import Quality

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Values = np.ndarray[Any, np.dtype[np.float32]]

THUMBNAIL = (96, 54)
LAYOUT = (16, 9)
_SAMPLES_ACROSS = 480  # points of a frame that make its thumbnail: more would only cost time
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)

BRIGHT_SPOTS = 24.0
"""Levels of 255 the brightest fiftieth of a frame must reach. The darkest of 29 pictures, a sky
of stars, had 85; a decoder that gave up has 0, and black with noise stays below 10."""
CONTRAST = 3.0
"""Standard deviation in levels. A frame of one colour has 0, its noise averaged away; the plainest of 29
pictures, the moon's surface, had 9.6."""
UNSEEN = (10.0, 0.5)
"""The least of these two where there is no keyframe to give way to: a clip of the dark, or of fog, that
its own first frame vouches for. A decoder that gave up has less."""
LIKENESS = 0.45
"""SSIM's formula over the colour layout, for the best of a few crops of the keyframe: 1 is equal. Over 23
photographs and drawings, a zoom or pan by up to a quarter kept 0.49 and mostly over 0.8, noise stayed
below 0.33, and of all pairs of different pictures one in a hundred exceeded 0.45. Pictures of one style
and layout are not told apart: the check is for clips that lost their picture."""
FLASH = 12.0
"""Levels by which a frame's mean brightness leaves the line between its neighbours: 5 % of the range,
seen by everybody. Zooms over stills had 0.02 at most, a cross-fade in half a second has about 2.5."""
JUMP = (25.0, 10.0, 50.0)
"""The largest step between frames, mean over pixels in levels, may be this many levels, or this many times
the clip's usual step, but never more than the last. Of pairs of different pictures 95 in 100 differ by
more than 39, and half by more than 84."""
GLARE = 0.4
"""Share of pixels driven to black or full, beyond the keyframe's: exploded colours do that."""
GRAIN = (30.0, 2.5)
"""Mean difference of horizontal neighbours in levels, or as a multiple of the keyframe's. Photographs have
1 to 10, noise of 30 levels 34, pure noise 85."""
MOTION = 1.0
"""Mean difference in levels between the first frame and the one least like it. A zoom by 8 % had 2 in the
plainest of 29 pictures and mostly over 8; grain of 8 levels on a still at 1024x576 has 0.6."""


@dataclass(frozen=True, slots=True)
class Check:
    """One measurement. A failed ``failure`` fails the clip, a failed ``warning`` does not."""

    value: float
    threshold: float
    passed: bool
    grade: Literal["failure", "warning"] = "failure"

    def to_json(self) -> dict[str, Any]:
        return {
            "value": round(self.value, 3),
            "threshold": round(self.threshold, 3),
            "passed": self.passed,
            "grade": self.grade,
        }


_SAYING: Mapping[str, str] = MappingProxyType(
    {
        "not_black": "a frame is black",
        "not_flat": "a frame shows a single colour",
        "like_keyframe": "the first frame does not look like the picture it was made from",
        "no_flash": "the brightness flickers",
        "no_jump": "a frame has nothing to do with the one before",
        "not_blown_out": "large parts are driven to black or full colour",
        "not_noise": "the picture dissolves into noise",
        "moves": "nothing moves; a higher motion value, or another seed, may help",
    }
)
"""The names of the checks, which are stable, and what a person is told where one does not pass."""


class QualityMeter:
    """Looks at a clip's frames as they pass.

    Args:
        keyframe: the picture the clip was made from, of the frames' shape if not their size: RGB, or
            uint8 of shape (height, width, 3). Without it ``like_keyframe`` is not among the checks, and
            the first frame stands in as the reference of the others, save that it cannot vouch for
            blackness.
        moving: whether a model made the motion. Where a camera and cross-fades did, as in animated
            stills, ``no_jump`` and ``moves`` say nothing and are left out: quick fades and short,
            slow moves are meant.
    """

    def __init__(
        self, keyframe: Image.Image | Pixels | None = None, *, moving: bool = True
    ) -> None:
        self._moving = moving
        self._keyframe = None if keyframe is None else _Look.at(_array(keyframe))
        self._first: _Look | None = None
        self._last: _Look | None = None
        self._luma: list[float] = []
        self._steps: list[float] = []
        self._travel = 0.0
        self._spots = self._contrast = float("inf")
        self._glare = self._grain = 0.0

    def feed(self, chunk: Pixels) -> None:
        """Look at the next frames: uint8, of shape (n, height, width, 3) in RGB, or (n, height * 3 / 2,
        width) in yuv420p, laid out as `media.planar` says.
        """
        for frame in chunk:
            look = _Look.at(frame)
            if self._first is None or self._last is None:
                self._first = look
            else:
                self._steps.append(look.difference(self._last))
                self._travel = max(self._travel, look.travel(self._first))
            self._last = look
            self._luma.append(look.luma)
            self._spots = min(self._spots, look.spots)
            self._contrast = min(self._contrast, look.contrast)
            self._glare = max(self._glare, look.glare)
            self._grain = max(self._grain, look.grain)

    def finish(self) -> tuple[Quality, tuple[str, ...]]:
        """The verdict, and a sentence for a person about every check that did not pass."""
        if self._first is None:
            return Quality(passed=False), ("there are no frames",)
        checks = self._checks(self._first, self._keyframe or self._first)
        quality = Quality(
            passed=all(check.passed for check in checks.values() if check.grade == "failure"),
            checks={name: check.to_json() for name, check in checks.items()},
        )
        warnings = tuple(
            f"{_SAYING[name]} ({name} {check.value:.3g}, threshold {check.threshold:.3g})"
            for name, check in checks.items()
            if not check.passed
        )
        return quality, warnings

    def _checks(self, first: _Look, reference: _Look) -> dict[str, Check]:
        usual = float(np.median(self._steps)) if self._steps else 0.0
        low, times, high = JUMP
        dark, flat = (0.0, 0.0) if self._keyframe is not None else UNSEEN
        spots, contrast = max(reference.spots / 2, dark), max(reference.contrast / 2, flat)
        checks = {
            "not_black": _at_least(self._spots, min(BRIGHT_SPOTS, spots)),
            "not_flat": _at_least(self._contrast, min(CONTRAST, contrast)),
            "no_flash": _at_most(_largest_flash(self._luma), FLASH),
            "no_jump": _at_most(max(self._steps, default=0.0), min(max(low, times * usual), high)),
            "not_blown_out": _at_most(self._glare, min(reference.glare + GLARE, 1.0)),
            "not_noise": _at_most(self._grain, max(GRAIN[0], GRAIN[1] * reference.grain)),
            "moves": Check(self._travel, MOTION, self._travel >= MOTION, "warning"),
        }
        if not self._moving:
            del checks["no_jump"], checks["moves"]
        if self._keyframe is not None:
            checks["like_keyframe"] = _at_least(first.likeness(self._keyframe), LIKENESS)
        return checks


@dataclass(frozen=True, slots=True)
class _Look:
    """What is kept of a frame: its thumbnail, float32 (54, 96, 3), and a few numbers, in levels of 255."""

    thumbnail: Values
    luma: float
    spots: float
    contrast: float
    glare: float
    grain: float

    @classmethod
    def at(cls, frame: Pixels) -> _Look:
        step = max(1, frame.shape[1] // _SAMPLES_ACROSS)
        points = np.ascontiguousarray(_rgb(frame, slice(None, None, step), slice(None, None, step)))
        small = Image.fromarray(points).resize(THUMBNAIL, Image.Resampling.BOX)
        thumbnail = np.asarray(small, np.float32)
        luma = thumbnail @ _LUMA
        green = _rgb(frame, slice(None, None, 4 * step), slice(None))[..., 1].astype(np.int16)
        edge = (thumbnail <= 2) | (thumbnail >= 253)
        return cls(
            thumbnail=thumbnail,
            luma=float(luma.mean()),
            spots=float(np.percentile(luma, 98)),
            contrast=float(thumbnail.std(axis=(0, 1)).mean()),
            glare=float(edge.any(axis=2).mean()),
            grain=float(np.abs(np.diff(green, axis=1)).mean()) if green.shape[1] > 1 else 0.0,
        )

    def difference(self, other: _Look) -> float:
        """Mean absolute difference of the thumbnails, in levels."""
        return float(np.abs(self.thumbnail - other.thumbnail).mean())

    def travel(self, other: _Look) -> float:
        """The same of thumbnails of a third of the size, in which grain has averaged away."""
        change = (self.thumbnail - other.thumbnail).reshape(18, 3, 32, 3, 3).mean(axis=(1, 3))
        return float(np.abs(change).mean())

    def likeness(self, picture: _Look) -> float:
        """How much the frame's colour layout is that of ``picture``, or of a crop of it: 1 is equal."""
        layout = _layout(_as_image(self.thumbnail))
        whole = _as_image(picture.thumbnail)
        return max(_similarity(layout, _layout(whole, crop)) for crop in _crops(whole.size))


def _rgb(frame: Pixels, rows: slice, columns: slice) -> Pixels:
    """Those rows and columns of a frame, which is RGB or, having no third axis, planar."""
    return frame[rows, columns] if frame.ndim == 3 else to_rgb(frame, rows, columns)


def _as_image(thumbnail: Values) -> Image.Image:
    return Image.fromarray(thumbnail.round().astype(np.uint8))


def _layout(image: Image.Image, crop: tuple[float, float, float, float] | None = None) -> Values:
    return np.asarray(image.resize(LAYOUT, Image.Resampling.BOX, box=crop), np.float32)


def _crops(size: tuple[int, int]) -> Iterator[tuple[float, float, float, float]]:
    """The whole, and what a camera move over a still may begin with: zoomed in, centred or at a border."""
    for zoom in (1.0, 1.1, 1.2):
        width, height = size[0] / zoom, size[1] / zoom
        places = (0.0, 0.5, 1.0) if zoom > 1 else (0.0,)
        for x, y in itertools.product(places, places):
            left, top = (size[0] - width) * x, (size[1] - height) * y
            yield left, top, left + width, top + height


def _similarity(a: Values, b: Values) -> float:
    """SSIM (Wang et al., 2004) with all of the picture as its single window, mean over the channels."""
    mean_a, mean_b = a.mean(axis=(0, 1)), b.mean(axis=(0, 1))
    shared = ((a - mean_a) * (b - mean_b)).mean(axis=(0, 1))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    brightness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * shared + c2) / (a.var(axis=(0, 1)) + b.var(axis=(0, 1)) + c2)
    return float((brightness * structure).mean())


def _array(picture: Image.Image | Pixels) -> Pixels:
    return np.asarray(picture.convert("RGB")) if isinstance(picture, Image.Image) else picture


def _largest_flash(luma: list[float]) -> float:
    """How far a frame's brightness leaves the mean of its neighbours' at most, in levels."""
    values = np.asarray(luma)
    if len(values) < 3:
        return 0.0
    return float(np.abs(values[1:-1] - (values[:-2] + values[2:]) / 2).max())


def _at_least(value: float, threshold: float) -> Check:
    return Check(value, threshold, value >= threshold)


def _at_most(value: float, threshold: float) -> Check:
    return Check(value, threshold, value <= threshold)
