"""How a scene is arranged: ground, light, one icon in front and some around it.

Every layout keeps its figures in the upper two thirds, so that a title can lie over the lowest third.
Lengths are in units of ``Stage.unit``, which is about the frame's height where it is wide enough.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from svd_local.keyframe import vocabulary
from svd_local.keyframe.canvas import Canvas, mix
from svd_local.keyframe.palettes import Palette

_FLOOR = 0.72
"""Where figures stand, as a share of the height."""


class Chance:
    """Choices that follow from words alone, the same on every machine and in every process."""

    def __init__(self, *seed: object) -> None:
        self._seed = "\x1f".join(map(str, seed))

    def unit(self, what: str) -> float:
        """A number from 0 to 1 for the choice called ``what``."""
        digest = hashlib.sha256(f"{self._seed}\x1f{what}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    def between(self, what: str, low: float, high: float) -> float:
        return low + (high - low) * self.unit(what)

    def pick(self, what: str, count: int) -> int:
        """A whole number from 0 to ``count`` - 1."""
        return int(self.unit(what) * count)

    def shuffled(self, what: str, items: Sequence[str]) -> list[str]:
        return sorted(items, key=lambda item: self.unit(f"{what} {item}"))


@dataclass(frozen=True, slots=True)
class Stage:
    """What a layout draws on and with. ``cast`` names the icons, the one in front first."""

    canvas: Canvas
    palette: Palette
    chance: Chance
    cast: tuple[str, ...]
    mirrored: bool

    @property
    def tall(self) -> bool:
        """Whether the frame is too narrow for figures side by side."""
        return self.canvas.width < 1.2 * self.canvas.height

    @property
    def unit(self) -> float:
        if self.tall:
            return min(self.canvas.width * 0.86, self.canvas.height * 0.68)
        return min(self.canvas.height * 1.06, self.canvas.width * 0.6)

    @property
    def floor(self) -> float:
        return self.canvas.height * _FLOOR

    @property
    def dark(self) -> bool:
        return sum(self.palette.sky[0]) < 380

    def x(self, offset: float) -> float:
        """Pixels of a place ``offset`` units right of the middle; mirrored where the scene is."""
        return self.canvas.width / 2 + (-offset if self.mirrored else offset) * self.unit

    def y(self, above: float) -> float:
        """Pixels of a place ``above`` units over the floor."""
        return self.floor - above * self.unit

    def figure(
        self, name: str, x: float, base: float, side: float, *, grounded: bool = True
    ) -> None:
        """Icon ``name``, its longest side ``side`` units, centred at pixel x, its foot at ``base``.

        People who end at the chest look out of a disc; what flies hovers over its shadow.
        """
        size = side * self.unit
        shade = self.palette.shade
        if grounded:
            reach = size * (0.40 if name in vocabulary.load().floating else 0.5)
            self.canvas.contact(x, base, reach, reach * 0.17, shade, 0.34)
        if name in vocabulary.load().busts:
            self._bust(name, x, base - size / 2, size / 2)
            return
        if grounded and name in vocabulary.load().floating:
            base -= size * 0.10
        icon = _icon(name, size)
        left, top = x - icon.width / 2, base - icon.height
        self.canvas.icon_shadow(icon, left, top + size * 0.03, size * 0.035, shade, 0.28)
        self.canvas.icon(icon, left, top)

    def emblem(self, name: str, x: float, y: float, side: float) -> None:
        """Icon ``name`` centred at pixel (x, y), without any ground."""
        size = side * self.unit
        if name in vocabulary.load().busts:
            self._bust(name, x, y, size * 0.56)
            return
        icon = _icon(name, size)
        left, top = x - icon.width / 2, y - icon.height / 2
        self.canvas.icon_shadow(
            icon, left, top + size * 0.03, size * 0.03, self.palette.shade, 0.22
        )
        self.canvas.icon(icon, left, top)

    def disc(self, x: float, y: float, radius: float) -> None:
        """A light disc with a soft shadow, ``radius`` in units, around pixel (x, y)."""
        size = radius * self.unit
        self.canvas.panel(
            x,
            y + size * 0.10,
            2 * size,
            2 * size,
            size,
            self.palette.shade,
            opacity=0.26,
            soft=size * 0.22,
        )
        self.canvas.disc(x, y, size, self.palette.light)

    def card(self, x: float, y: float, width: float, height: float) -> None:
        """A light rounded card with a soft shadow, lengths in units, around pixel (x, y)."""
        wide, high = width * self.unit, height * self.unit
        radius = 0.05 * self.unit
        self.canvas.panel(
            x,
            y + 0.025 * self.unit,
            wide,
            high,
            radius,
            self.palette.shade,
            opacity=0.30,
            soft=0.045 * self.unit,
        )
        tint = mix(self.palette.light, self.palette.far, 0.10)
        self.canvas.panel(x, y, wide, high, radius, self.palette.light, below=tint)

    def _bust(self, name: str, x: float, y: float, radius: float) -> None:
        canvas, palette = self.canvas, self.palette
        canvas.disc(x, y, radius, palette.light)
        inner = radius * 0.93
        canvas.disc(x, y, inner, mix(palette.far, palette.light, 0.35))
        icon = _icon(name, inner * 1.72)
        canvas.icon(
            icon, x - icon.width / 2, y + inner - icon.height + inner * 0.04, clip=(x, y, inner)
        )


@lru_cache(maxsize=16)
def _packaged(name: str) -> Image.Image:
    with Image.open(vocabulary.ICONS / f"{name}.webp") as file:
        return file.convert("RGBA")


def _icon(name: str, size: float) -> Image.Image:
    """Icon ``name``, its longest side ``size`` pixels."""
    source = _packaged(name)
    scale = size / max(source.size)
    wanted = max(1, round(source.width * scale)), max(1, round(source.height * scale))
    return source.convert("RGBa").resize(wanted, Image.Resampling.LANCZOS).convert("RGBA")


def backdrop(stage: Stage) -> None:
    """Sky, light, hills and ground, as the words have it."""
    canvas, palette, chance, unit = stage.canvas, stage.palette, stage.chance, stage.unit
    canvas.gradient(*palette.sky)
    sun = stage.x(chance.between("sun", -0.5, 0.5)), canvas.height * 0.30
    canvas.glow(*sun, unit * 0.95, palette.light, 0.35 if stage.dark else 0.8)
    for index in range(5):
        radius = chance.between(f"bubble size {index}", 0.05, 0.20) * unit
        x = chance.unit(f"bubble x {index}") * canvas.width
        y = chance.between(f"bubble y {index}", 0.02, 0.5) * canvas.height
        canvas.disc(x, y, radius, palette.light, 0.07 if stage.dark else 0.28)
    if stage.dark:
        for index in range(36):
            x = chance.unit(f"star x {index}") * canvas.width
            y = chance.unit(f"star y {index}") * canvas.height * 0.5
            size = chance.between(f"star size {index}", 0.0012, 0.0035) * unit
            canvas.disc(
                x, y, max(0.6, size), palette.light, chance.between(f"star {index}", 0.3, 0.9)
            )
    else:
        _clouds(stage)
    if chance.unit("hills") < 0.7:
        canvas.ground(
            _hill(stage, "far", 0.54, 0.055), palette.far, mix(palette.far, palette.near, 0.5)
        )
        canvas.ground(_hill(stage, "near", 0.62, 0.040), palette.near, palette.ground[0])
    else:
        _skyline(stage)
    canvas.ground(_hill(stage, "ground", 0.69, 0.010), *palette.ground)
    canvas.glow(stage.x(0), stage.floor, unit * 0.9, palette.light, 0.10)
    front = mix(*palette.ground, 0.6)
    canvas.ground(
        _hill(stage, "front", 0.88, 0.030), front, mix(palette.ground[1], palette.shade, 0.15)
    )


def _hill(stage: Stage, name: str, height: float, swing: float) -> Callable[[float], float]:
    """A wavy line around ``height`` (share of the frame), up and down by ``swing``."""
    chance, canvas = stage.chance, stage.canvas
    phases = [chance.between(f"{name} phase {index}", 0, 2 * math.pi) for index in range(2)]
    slow = chance.between(f"{name} wave", 0.7, 1.3) * 2 * math.pi / canvas.width

    def line(x: float) -> float:
        wave = math.sin(x * slow + phases[0]) + 0.4 * math.sin(2.3 * x * slow + phases[1])
        return canvas.height * (height + swing * wave / 1.4)

    return line


def _clouds(stage: Stage) -> None:
    canvas, chance, unit = stage.canvas, stage.chance, stage.unit
    tint = mix(stage.palette.sky[0], stage.palette.light, 0.7)
    for index in range(3):
        x = (index + chance.between(f"cloud x {index}", 0.1, 0.9)) / 3 * canvas.width
        y = chance.between(f"cloud y {index}", 0.08, 0.30) * canvas.height
        size = chance.between(f"cloud size {index}", 0.035, 0.065) * unit
        canvas.panel(x, y + size * 0.55, size * 4.6, size * 1.1, size * 0.55, tint)
        canvas.disc(x - size * 0.8, y, size * 0.95, tint)
        canvas.disc(x + size * 0.65, y + size * 0.12, size * 0.75, tint)


def _skyline(stage: Stage) -> None:
    """Blocks of a town in the distance."""
    canvas, chance, palette, unit = stage.canvas, stage.chance, stage.palette, stage.unit
    for layer, (tint, top, share) in enumerate(
        ((palette.far, 0.40, 0.55), (palette.near, 0.52, 0.35))
    ):
        x = -chance.unit(f"town {layer}") * 0.1 * unit
        index = 0
        while x < canvas.width:
            width = chance.between(f"block {layer} {index}", 0.07, 0.15) * unit
            high = canvas.height * (top + chance.unit(f"height {layer} {index}") * 0.2)
            bottom = canvas.height * 0.75
            canvas.panel(
                x + width / 2,
                (high + bottom) / 2,
                width,
                bottom - high,
                0.012 * unit,
                tint,
                below=mix(tint, palette.ground[0], share),
            )
            x += width + chance.between(f"gap {layer} {index}", -0.01, 0.06) * unit
            index += 1
