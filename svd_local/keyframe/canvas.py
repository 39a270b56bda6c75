"""Drawing for the composed illustrations: smooth shapes and light, the same pixels on every machine.

Shapes are distance functions, so that edges are smooth at any size; only basic arithmetic is used on
arrays, which every processor rounds alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

Colour = tuple[int, int, int]

_BAYER = np.array([[0, 2], [3, 1]], dtype=np.float32)
for _ in range(2):  # 2x2 -> 4x4 -> 8x8
    _BAYER = np.block([[4 * _BAYER, 4 * _BAYER + 2], [4 * _BAYER + 3, 4 * _BAYER + 1]])


def colour(code: str) -> Colour:
    """``#rrggbb`` as numbers from 0 to 255."""
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """``one`` with ``share`` (0 to 1) of ``other`` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


class Canvas:
    """A picture being drawn: float32 RGB from 0 to 255, x to the right and y downward, in pixels."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.width, self.height = size
        self._pixels: Floats = np.zeros((self.height, self.width, 3), np.float32)

    def image(self) -> Image.Image:
        """What is drawn, as RGB. Dithered by an ordered pattern, or soft gradients would band."""
        rows, columns = -(-self.height // 8), -(-self.width // 8)
        pattern = np.tile((_BAYER + 0.5) / 64, (rows, columns))[: self.height, : self.width, None]
        return Image.fromarray(np.clip(self._pixels + pattern, 0, 255).astype(np.uint8))

    def gradient(self, top: Colour, bottom: Colour) -> None:
        """Fill everything from ``top`` to ``bottom``."""
        share = np.linspace(0, 1, self.height, dtype=np.float32)[:, None]
        share = share * share * (3 - 2 * share)
        rows = _array(top) * (1 - share) + _array(bottom) * share
        self._pixels[:] = rows[:, None, :]

    def glow(self, x: float, y: float, radius: float, tint: Colour, strength: float) -> None:
        """Light around a point, fading to nothing at ``radius``."""

        def light(dx: Floats, dy: Floats) -> Floats:
            rest = np.maximum(1 - (dx * dx + dy * dy) / (radius * radius), 0)
            return rest * rest * strength

        self._blend((x - radius, y - radius, x + radius, y + radius), x, y, light, tint)

    def disc(self, x: float, y: float, radius: float, tint: Colour, opacity: float = 1) -> None:
        """A filled circle."""

        def cover(dx: Floats, dy: Floats) -> Floats:
            return _edge(np.sqrt(dx * dx + dy * dy) - radius) * opacity

        self._blend(_around(x, y, radius), x, y, cover, tint)

    def ring(
        self, x: float, y: float, radius: float, width: float, tint: Colour, opacity: float = 1
    ) -> None:
        """A circle's outline, ``width`` wide."""

        def cover(dx: Floats, dy: Floats) -> Floats:
            return _edge(abs(np.sqrt(dx * dx + dy * dy) - radius) - width / 2) * opacity

        self._blend(_around(x, y, radius + width), x, y, cover, tint)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, tint: Colour, opacity: float = 1
    ) -> None:
        """A filled ellipse with half-axes ``rx`` and ``ry``."""

        def cover(dx: Floats, dy: Floats) -> Floats:
            return _edge((np.sqrt((dx / rx) ** 2 + (dy / ry) ** 2) - 1) * min(rx, ry)) * opacity

        self._blend((x - rx - 1, y - ry - 1, x + rx + 1, y + ry + 1), x, y, cover, tint)

    def contact(
        self, x: float, y: float, rx: float, ry: float, tint: Colour, opacity: float
    ) -> None:
        """A soft shadow on the ground."""

        def cover(dx: Floats, dy: Floats) -> Floats:
            rest = np.maximum(1 - (dx / rx) ** 2 - (dy / ry) ** 2, 0)
            return rest * np.sqrt(rest) * opacity

        self._blend((x - rx, y - ry, x + rx, y + ry), x, y, cover, tint)

    def panel(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        radius: float,
        tint: Colour,
        *,
        opacity: float = 1,
        soft: float = 0,
        below: Colour | None = None,
    ) -> None:
        """A rounded rectangle around (x, y).

        ``soft`` blurs its edge by so many pixels, as a shadow has it; ``below`` is the colour it
        fades to at its lower edge.
        """

        def cover(dx: Floats, dy: Floats) -> Floats:
            qx = np.maximum(abs(dx) - width / 2 + radius, 0)
            qy = np.maximum(abs(dy) - height / 2 + radius, 0)
            distance = np.sqrt(qx * qx + qy * qy) - radius
            if soft:
                ramp = np.clip(0.5 - distance / (2 * soft), 0, 1)
                smooth: Floats = ramp * ramp * (3 - 2 * ramp) * opacity
                return smooth
            return _edge(distance) * opacity

        reach = (width / 2 + soft + 1, height / 2 + soft + 1)
        box = (x - reach[0], y - reach[1], x + reach[0], y + reach[1])
        span = None if below is None else (y - height / 2, y + height / 2, below)
        self._blend(box, x, y, cover, tint, span)

    def ground(self, line: Callable[[float], float], top: Colour, bottom: Colour) -> None:
        """Everything below ``line`` (y for each x), fading from ``top`` to ``bottom``."""
        heights = np.array([line(x + 0.5) for x in range(self.width)], np.float32)

        def cover(_: Floats, dy: Floats) -> Floats:
            return _edge(heights[None, :] - dy)

        start = max(0.0, float(heights.min()) - 1)
        span = (start, self.height, bottom)
        self._blend((0, start, self.width, self.height), 0, 0, cover, top, span)

    def icon(
        self,
        icon: Image.Image,
        x: float,
        y: float,
        *,
        clip: tuple[float, float, float] | None = None,
    ) -> None:
        """Lay ``icon`` (RGBA, at its final size) with its upper left corner at (x, y).

        ``clip`` is a circle (x, y, radius) outside which nothing is drawn.
        """
        left, top = round(x), round(y)
        box = self._within(left, top, left + icon.width, top + icon.height)
        if box is None:
            return
        source: Floats = np.asarray(icon.convert("RGBa"), np.float32)
        source = source[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
        if clip is not None:
            dx, dy = _offsets(box, clip[0], clip[1])
            source = source * _edge(np.sqrt(dx * dx + dy * dy) - clip[2])[..., None]
        region = self._pixels[box[1] : box[3], box[0] : box[2]]
        region *= 1 - source[..., 3:] / 255
        region += source[..., :3]

    def icon_shadow(
        self, icon: Image.Image, x: float, y: float, blur: float, tint: Colour, opacity: float
    ) -> None:
        """The blurred shadow of ``icon`` laid at (x, y)."""
        factor = max(1, int(blur / 2))
        margin = int(blur * 3 / factor) + 1
        small = (max(1, icon.width // factor), max(1, icon.height // factor))
        alpha = Image.new("L", (small[0] + 2 * margin, small[1] + 2 * margin))
        alpha.paste(icon.getchannel("A").resize(small, Image.Resampling.BOX), (margin, margin))
        alpha = alpha.filter(ImageFilter.GaussianBlur(blur / factor))
        full = (
            round(alpha.width * icon.width / small[0]),
            round(alpha.height * icon.height / small[1]),
        )
        alpha = alpha.resize(full, Image.Resampling.BICUBIC)
        left = round(x - margin * icon.width / small[0])
        top = round(y - margin * icon.height / small[1])
        box = self._within(left, top, left + full[0], top + full[1])
        if box is None:
            return
        cover = np.asarray(alpha, np.float32)
        cover = cover[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
        self._lay(box, cover * (opacity / 255), tint)

    def _blend(
        self,
        box: tuple[float, float, float, float],
        x: float,
        y: float,
        cover: Callable[[Floats, Floats], Floats],
        tint: Colour,
        span: tuple[float, float, Colour] | None = None,
    ) -> None:
        """Lay ``tint`` where ``cover`` (of the offsets from (x, y)) says, within ``box``."""
        clamped = self._within(int(box[0]) - 1, int(box[1]) - 1, int(box[2]) + 2, int(box[3]) + 2)
        if clamped is None:
            return
        dx, dy = _offsets(clamped, x, y)
        self._lay(clamped, cover(dx, dy), tint, span)

    def _lay(
        self,
        box: tuple[int, int, int, int],
        cover: Floats,
        tint: Colour,
        span: tuple[float, float, Colour] | None = None,
    ) -> None:
        region = self._pixels[box[1] : box[3], box[0] : box[2]]
        paint: Any = _array(tint)
        if span is not None:
            rows = np.arange(box[1], box[3], dtype=np.float32) + 0.5
            share = np.clip((rows - span[0]) / (span[1] - span[0]), 0, 1)[:, None, None]
            paint = paint * (1 - share) + _array(span[2]) * share
        region += (paint - region) * cover[..., None]

    def _within(
        self, left: int, top: int, right: int, bottom: int
    ) -> tuple[int, int, int, int] | None:
        """What of the box lies on the canvas."""
        left, top = max(0, left), max(0, top)
        right, bottom = min(self.width, right), min(self.height, bottom)
        return (left, top, right, bottom) if left < right and top < bottom else None


def _array(tint: Colour) -> Floats:
    return np.array(tint, np.float32)


def _offsets(box: tuple[int, int, int, int], x: float, y: float) -> tuple[Floats, Floats]:
    dx = np.arange(box[0], box[2], dtype=np.float32)[None, :] + np.float32(0.5 - x)
    dy = np.arange(box[1], box[3], dtype=np.float32)[:, None] + np.float32(0.5 - y)
    return dx, dy


def _edge(distance: Floats) -> Floats:
    """Coverage of a pixel at so many pixels from an edge, inside negative."""
    covered: Floats = np.clip(0.5 - distance, 0, 1)
    return covered


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius - 1, y - radius - 1, x + radius + 1, y + radius + 1
