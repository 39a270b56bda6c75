"""Frames as H.264 keeps them: yuv420p, BT.709, narrow range, chroma aligned with the left luma sample.

Who makes frames in this form saves the encoder a conversion and half of the bytes. A frame is uint8 of
shape (height * 3 / 2, width), width and height even: ``height`` rows of luma, then the quarter planes of
Cb and of Cr one after the other, as a raw ``yuv420p`` file holds them. Numbers are those of ITU-R BT.709-6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

Plane = np.ndarray[Any, np.dtype[np.uint8]]

_KR, _KB = 0.2126, 0.0722
_KG = 1.0 - _KR - _KB
_BLACK, _LUMA_SPAN, _GREY, _CHROMA_SPAN = 16.0, 219.0, 128.0, 224.0


def _matrix() -> tuple[float, ...]:
    """Three rows of four: Y, Cb and Cr from R, G, B and 1, all in levels of 255."""
    luma = np.array([_KR, _KG, _KB])
    cb = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - _KB))
    cr = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - _KR))
    rows = (
        (luma * _LUMA_SPAN / 255, _BLACK),
        (cb * _CHROMA_SPAN / 255, _GREY),
        (cr * _CHROMA_SPAN / 255, _GREY),
    )
    return tuple(v for row, level in rows for v in (*map(float, row), level))


_TO_YCC = _matrix()


def split(picture: Image.Image) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Y, Cb and Cr of an RGB picture, each of its size."""
    luma, cb, cr = picture.convert("RGB", _TO_YCC).split()
    return luma, cb, cr


def join(luma: Plane, cb: Plane, cr: Plane) -> Plane:
    """A frame of its planes, whose sizes are (height, width) and twice half of both."""
    height, width = luma.shape
    frame = np.empty((height * 3 // 2, width), np.uint8)
    for part, plane in zip(planes(frame), (luma, cb, cr), strict=True):
        part[...] = plane
    return frame


def planes(frame: Plane) -> tuple[Plane, Plane, Plane]:
    """Y, Cb and Cr of a frame, as views of it."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    chroma = frame[height:].reshape(2, height // 2, width // 2)
    return frame[:height], chroma[0], chroma[1]


def to_rgb(frame: Plane, rows: slice = slice(None), columns: slice = slice(None)) -> Plane:
    """Those rows and columns of a frame in RGB: uint8, (rows, columns, 3).

    Chroma is that of the sample that covers the pixel, not interpolated: enough to look at.
    """
    luma, cb, cr = planes(frame)
    y, x = np.arange(luma.shape[0])[rows], np.arange(luma.shape[1])[columns]
    light = (luma[rows, columns].astype(np.float32) - _BLACK) * (255 / _LUMA_SPAN)
    at = np.ix_(y // 2, x // 2)
    blue, red = (
        (plane[at].astype(np.float32) - _GREY) * (255 / _CHROMA_SPAN) for plane in (cb, cr)
    )
    r = light + 2 * (1 - _KR) * red
    b = light + 2 * (1 - _KB) * blue
    g = (light - _KR * r - _KB * b) / _KG
    picture: Plane = np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255).astype(np.uint8)
    return picture
