"""The ways a scene's figures can stand. Each draws ``stage.cast``, the first name in front.

Figures keep away from the edges, so that a camera that moves over the picture cuts none of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from svd_local.keyframe.canvas import mix
from svd_local.keyframe.scenes import Stage

CAST = 5
"""The most figures a layout shows."""


def podium(stage: Stage) -> None:
    """The subject on a podium before a large disc, the others on smaller ones to both sides."""
    x, y = stage.x(0), stage.y(0.30)
    unit, palette = stage.unit, stage.palette
    stage.canvas.ring(x, y, 0.365 * unit, 0.010 * unit, palette.light, 0.55)
    stage.canvas.disc(x, y, 0.325 * unit, palette.light, 0.30 if stage.dark else 0.62)
    places = ((-0.38, 0.01, 0.24), (0.38, 0.01, 0.24), (-0.61, 0.03, 0.19), (0.61, 0.03, 0.19))
    for name, (offset, lift, side) in reversed(list(zip(stage.cast[1:], places, strict=False))):
        _pedestal(stage, stage.x(offset), stage.y(lift - 0.045), side * 0.56)
        stage.figure(name, stage.x(offset), stage.y(lift), side)
    _pedestal(stage, x, stage.y(-0.055), 0.30)
    stage.figure(stage.cast[0], x, stage.y(0), 0.47)


def board(stage: Stage) -> None:
    """The subject beside a board, on which the others are pinned along a dotted path."""
    unit, palette = stage.unit, stage.palette
    x, y = stage.x(0.26), stage.y(0.34)
    stage.card(x, y, 0.94, 0.50)
    for index in range(3):
        dot = x + (-0.44 + 0.035 * index) * unit, y - 0.215 * unit
        stage.canvas.disc(*dot, 0.010 * unit, (palette.accent, palette.near, palette.far)[index])
    places = ((-0.30, 0.05), (0.0, -0.04), (0.30, 0.05))
    tints = [mix(palette.light, tint, 0.45) for tint in (palette.far, palette.accent, palette.near)]
    for index in range(2):
        _dotted(stage, x, y, places[index], places[index + 1])
    for name, (dx, dy), tint in zip(stage.cast[1:4], places, tints, strict=False):
        stage.canvas.disc(x + dx * unit, y + dy * unit, 0.125 * unit, tint)
        stage.emblem(name, x + dx * unit, y + dy * unit, 0.165)
    if len(stage.cast) > 4:
        stage.figure(stage.cast[4], stage.x(0.62), stage.y(-0.04), 0.20)
    stage.figure(stage.cast[0], stage.x(-0.44), stage.y(-0.02), 0.52)


def orbit(stage: Stage) -> None:
    """The subject on a disc in the middle, the others circling it on smaller ones."""
    unit, palette = stage.unit, stage.palette
    x, y = stage.x(0), stage.y(0.25)
    for index in range(64):
        angle = index / 64 * 2 * math.pi
        at = x + 0.60 * unit * math.cos(angle), y + 0.235 * unit * math.sin(angle)
        stage.canvas.disc(*at, 0.0055 * unit, palette.light, 0.85)
    places = (
        (-0.565, 0.085, 0.12),
        (0.565, 0.085, 0.12),
        (-0.50, -0.175, 0.105),
        (0.50, -0.175, 0.105),
    )
    for name, (dx, dy, radius) in zip(stage.cast[1:], places, strict=False):
        at = x + (-dx if stage.mirrored else dx) * unit, y + dy * unit
        stage.disc(*at, radius)
        stage.emblem(name, *at, radius * 1.32)
    stage.disc(x, y, 0.285)
    stage.canvas.ring(x, y, 0.262 * unit, 0.006 * unit, mix(palette.light, palette.far, 0.7))
    stage.emblem(stage.cast[0], x, y, 0.385)


def cards(stage: Stage) -> None:
    """Three cards side by side, the subject's larger and in front."""
    unit, palette = stage.unit, stage.palette
    y = stage.y(0.26)
    for name, offset in zip(stage.cast[3:5], (-0.735, 0.735), strict=False):
        stage.disc(stage.x(offset), y + 0.07 * unit, 0.088)
        stage.emblem(name, stage.x(offset), y + 0.07 * unit, 0.116)
    sides = zip(stage.cast[1:3], (-0.43, 0.43), (palette.accent, palette.far), strict=False)
    for name, offset, tint in sides:
        _portrait_card(stage, name, (stage.x(offset), y + 0.02 * unit), (0.36, 0.40), tint)
    _portrait_card(stage, stage.cast[0], (stage.x(0), y), (0.50, 0.56), palette.near)


def meadow(stage: Stage) -> None:
    """The subject large on the ground to one side, the others standing around at their distance."""
    unit = stage.unit
    stage.canvas.disc(
        stage.x(-0.22),
        stage.y(0.28),
        0.37 * unit,
        stage.palette.light,
        0.28 if stage.dark else 0.55,
    )
    places = ((0.58, 0.055, 0.26), (0.27, 0.075, 0.22), (-0.60, 0.065, 0.22), (0.42, -0.045, 0.22))
    for name, (offset, lift, side) in zip(stage.cast[1:4], places, strict=False):
        stage.figure(name, stage.x(offset), stage.y(lift), side)
    stage.figure(stage.cast[0], stage.x(-0.22), stage.y(-0.02), 0.55)
    for name in stage.cast[4:5]:
        stage.figure(name, stage.x(places[3][0]), stage.y(places[3][1]), places[3][2])


def tower(stage: Stage) -> None:
    """For frames taller than wide: the subject before a disc, the others in a row under it."""
    unit, palette = stage.unit, stage.palette
    x, y = stage.x(0), stage.y(0.62)
    stage.canvas.ring(x, y, 0.48 * unit, 0.012 * unit, palette.light, 0.55)
    stage.canvas.disc(x, y, 0.43 * unit, palette.light, 0.30 if stage.dark else 0.62)
    stage.figure(stage.cast[0], x, stage.y(0.32), 0.60, grounded=False)
    for name, offset in zip(stage.cast[1:4], (-0.36, 0.36, 0.0), strict=False):
        stage.figure(name, stage.x(offset), stage.y(-0.02 if offset else -0.08), 0.29)


WIDE: tuple[Callable[[Stage], None], ...] = (podium, board, orbit, cards, meadow)


def _pedestal(stage: Stage, x: float, y: float, radius: float) -> None:
    """A low round pedestal, its upper face a little above pixel (x, y), ``radius`` in units."""
    unit, palette, canvas = stage.unit, stage.palette, stage.canvas
    rx, ry, height = radius * unit, radius * 0.24 * unit, 0.045 * unit
    canvas.contact(x, y + height * 0.9, rx * 1.25, ry * 1.3, palette.shade, 0.35)
    side = mix(palette.light, palette.near, 0.55)
    canvas.ellipse(x, y + height * 0.55, rx, ry, mix(side, palette.shade, 0.25))
    canvas.panel(
        x, y + height * 0.05, 2 * rx, height, 0, side, below=mix(side, palette.shade, 0.25)
    )
    canvas.ellipse(x, y - height * 0.45, rx, ry, mix(palette.light, palette.far, 0.25))
    canvas.ellipse(x, y - height * 0.45, rx * 0.86, ry * 0.86, palette.light)


def _portrait_card(
    stage: Stage,
    name: str,
    at: tuple[float, float],
    size: tuple[float, float],
    tint: tuple[int, int, int],
) -> None:
    """A card with a tinted field, in which ``name`` stands."""
    unit, palette = stage.unit, stage.palette
    stage.card(*at, *size)
    field = size[0] - 0.05, size[1] - 0.05
    pale = mix(palette.light, tint, 0.45)
    stage.canvas.panel(
        *at, field[0] * unit, field[1] * unit, 0.032 * unit, pale, below=mix(pale, tint, 0.6)
    )
    stage.canvas.disc(at[0], at[1], size[0] * 0.38 * unit, palette.light, 0.35)
    stage.emblem(name, *at, size[0] * 0.66)


def _dotted(
    stage: Stage, x: float, y: float, start: tuple[float, float], end: tuple[float, float]
) -> None:
    for index in range(1, 16):
        share = index / 16
        dx = start[0] + (end[0] - start[0]) * share
        dy = start[1] + (end[1] - start[1]) * share
        at = x + dx * stage.unit, y + dy * stage.unit
        stage.canvas.disc(
            *at, 0.0055 * stage.unit, mix(stage.palette.light, stage.palette.near, 0.8)
        )
