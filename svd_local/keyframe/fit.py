"""A picture brought to another shape without stretching it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

_ABOVE_MIDDLE = 0.4
"""Of what is cut from a tall picture, this much goes at the top: faces are above the middle."""
_REDUCING_GAP = 3.0
"""Large pictures are box-reduced to this times the size first; beyond 3 it makes no visible change."""


def fit(image: Image, size: tuple[int, int], mode: Literal["crop", "pad"] = "crop") -> Image:
    """``image`` (RGB) at exactly ``size`` (width, height), its proportions kept.

    ``crop`` covers the frame and cuts what hangs over, in the middle, or a little above it where a
    tall picture loses height. ``pad`` shows the whole picture before its own blurred edges.
    """
    if mode == "pad":
        return _pad(image, size)
    return _cover(image, size)


def _cover(image: Image, size: tuple[int, int]) -> Image:
    from PIL.Image import Resampling

    scale = max(size[0] / image.width, size[1] / image.height)
    width, height = size[0] / scale, size[1] / scale
    left = (image.width - width) / 2
    top = (image.height - height) * _ABOVE_MIDDLE
    # Rounding must not carry the box past the picture's edge.
    box = (max(0.0, left), max(0.0, top), min(left + width, image.width), top + height)
    box = (box[0], box[1], box[2], min(box[3], image.height))
    return image.resize(size, Resampling.LANCZOS, box, _REDUCING_GAP)


def _pad(image: Image, size: tuple[int, int]) -> Image:
    from PIL.Image import Resampling

    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (
        min(size[0], max(1, round(image.width * scale))),
        min(size[1], max(1, round(image.height * scale))),
    )
    if inner == size:
        return _cover(image, size)
    framed = _blurred(image, size)
    whole = image.resize(inner, Resampling.LANCZOS, reducing_gap=_REDUCING_GAP)
    framed.paste(whole, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return framed


def _blurred(image: Image, size: tuple[int, int]) -> Image:
    """The picture covering the frame, out of focus and a little darker."""
    from PIL import ImageEnhance, ImageFilter
    from PIL.Image import Resampling

    # Blurred small: the result is the same to the eye and takes no time.
    factor = max(1, min(size) // 72)
    small = (max(1, size[0] // factor), max(1, size[1] // factor))
    soft = _cover(image, small).filter(ImageFilter.GaussianBlur(max(1.0, min(small) / 14)))
    return ImageEnhance.Brightness(soft.resize(size, Resampling.BICUBIC)).enhance(0.8)
