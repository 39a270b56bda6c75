"""A picture in the form its frames are made of, and one frame of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from svd_local.media import planar

UInt8Array = np.ndarray[Any, np.dtype[np.uint8]]
Box = tuple[float, float, float, float]

_FILTER = Image.Resampling.BICUBIC
_MARGIN = 1
"""Columns repeated left of a chroma plane: its samples lie half a frame pixel left of where Pillow's would,
and the window may begin at the picture's edge."""


class Still:
    """A picture's luma, and its chroma at half the size: resampled so, a frame costs half of what it does
    in RGB, and the encoder has nothing left to convert.

    Resampling is linear and so is the step from RGB to luma and chroma: in either order they give the
    same but for rounding.

    Args:
        picture: RGB.
    """

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture
        self._luma, *chroma = planar.split(picture)
        width, height = picture.size
        half = ((width + 1) // 2, (height + 1) // 2)
        self._chroma = [_with_margin(plane.resize(half, _FILTER)) for plane in chroma]
        self._scale = (half[0] / width, half[1] / height)

    def frame(self, box: Box, size: tuple[int, int]) -> UInt8Array:
        """What is seen of it through ``box`` (left, top, right, bottom in pixels): as of `media.planar`.

        ``size`` is the frame's width and height, both even.
        """
        luma = self._luma.resize(size, _FILTER, box=box)
        half = (size[0] // 2, size[1] // 2)
        left, top, right, bottom = box
        aside = -0.5 * (right - left) / size[0]
        across, down = self._scale
        there = (
            (left + aside) * across + _MARGIN,
            top * down,
            (right + aside) * across + _MARGIN,
            bottom * down,
        )
        cb, cr = (np.asarray(plane.resize(half, _FILTER, box=there)) for plane in self._chroma)
        return planar.join(np.asarray(luma), cb, cr)

    def rgb(self, box: Box, size: tuple[int, int]) -> UInt8Array:
        """The same in RGB: uint8, (height, width, 3), not writable."""
        return np.asarray(self.picture.resize(size, _FILTER, box=box))


def from_rgb(frame: UInt8Array) -> UInt8Array:
    """A frame of RGB, (height, width, 3), as of `media.planar`."""
    height, width = frame.shape[:2]
    return Still(Image.fromarray(frame)).frame((0, 0, width, height), (width, height))


def _with_margin(plane: Image.Image) -> Image.Image:
    values = np.asarray(plane)
    return Image.fromarray(np.pad(values, ((0, 0), (_MARGIN, 0)), mode="edge"))
