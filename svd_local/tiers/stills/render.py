"""The frames of a timeline: each picture resampled through its window, and the fades between them.

Every frame is resampled from the picture itself at the window's exact edges, never rounded to whole
pixels, which is what makes slow moves jitter elsewhere. The filter is bicubic: next to Lanczos's it
keeps 93 % of the sharpness where that keeps 99, rings less around letters and takes a quarter less
time. Frames are made as the encoder stores them; only those of a fade, whose light is mixed, go through
RGB.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from svd_local.tiers.stills.still import Still, UInt8Array, from_rgb
from svd_local.tiers.stills.timeline import Shot, visible

RENDERER = 3
"""Counts up with every change that alters pixels; part of the fingerprint of what it makes."""
OVERSAMPLING = 1.25
"""Side of the pictures wanted, in sides of the frame. A little more than the deepest zoom, so that
every frame is a reduction: none is blurred, and none looks sharper for lying on the pixel grid (at
1.2 the sharpness of a pan swings by 6 % with its place between pixels; at 1.25 by 0.03 %)."""

THREADS = min(4, os.cpu_count() or 1)
"""Threads that resample, and frames held ahead of the reader. Four outrun the encoder."""
_ROWS = 16
"""Rows mixed at a time, to stay within the processor's cache."""


def working_size(width: int, height: int) -> tuple[int, int]:
    """The size pictures are wanted at for frames of ``width`` by ``height``."""
    return round(width * OVERSAMPLING), round(height * OVERSAMPLING)


def render(
    pictures: Sequence[Image.Image], shots: Sequence[Shot], frames: int, size: tuple[int, int]
) -> Iterator[UInt8Array]:
    """Make the frames, in order, a few of them ahead in threads (resampling releases the GIL).

    Args:
        pictures: RGB, of the frame's shape; ``working_size`` is the resolution worth having.
        shots: as ``timeline`` makes them, for these pictures.
        frames: how many frames there are.
        size: width and height of a frame, both even.

    Yields:
        uint8 arrays of shape (1, height * 3 / 2, width), yuv420p as of `media.planar`.
    """
    stills = [Still(picture) for picture in pictures]
    numbers = iter(range(frames))
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="stills")
    ahead: deque[Future[UInt8Array]] = deque()
    try:
        for number in numbers:
            ahead.append(pool.submit(draw, stills, shots, number, size))
            if len(ahead) > THREADS:
                yield ahead.popleft().result()[np.newaxis]
        while ahead:
            yield ahead.popleft().result()[np.newaxis]
    finally:
        pool.shutdown(cancel_futures=True)


def draw(
    stills: Sequence[Still], shots: Sequence[Shot], frame: int, size: tuple[int, int]
) -> UInt8Array:
    """One frame: uint8, (height * 3 / 2, width), yuv420p as of `media.planar`."""
    layers = [(shot, stills[shot.picture]) for shot in visible(shots, frame)]
    boxes = [shot.window(frame).in_pixels(*still.picture.size) for shot, still in layers]
    if len(layers) == 1:
        return layers[0][1].frame(boxes[0], size)
    below, above = (still.rgb(box, size) for (_, still), box in zip(layers, boxes, strict=True))
    return from_rgb(_mix(below, above, layers[1][0].opacity(frame)))


def _mix(below: UInt8Array, above: UInt8Array, opacity: float) -> UInt8Array:
    """``above`` over ``below``, added as light is, so that no fade dims on its way."""
    light, code = _tables()
    under = ((1.0 - opacity) * light).astype(np.uint16)
    over = (opacity * light).astype(np.uint16)
    mixed = np.empty_like(below)
    for row in range(0, len(mixed), _ROWS):
        rows = slice(row, row + _ROWS)
        total = under[below[rows]]
        total += over[above[rows]]
        mixed[rows] = code[total]
    return mixed


@cache
def _tables() -> tuple[np.ndarray[Any, np.dtype[np.float64]], UInt8Array]:
    """Light (0 to 65535) of each sRGB code, and the nearest code of each light (IEC 61966-2-1)."""
    codes = np.arange(256) / 255
    light = 65535 * np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    halfway = (light[1:] + light[:-1]) / 2
    code = np.searchsorted(halfway, np.arange(65536)).astype(np.uint8)
    return light, code
