"""Where the camera looks: slow pans and zooms over a still, as windows in parts of a pixel."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

MAX_ZOOM = 1.2
"""The deepest zoom: the window is then 1/1.2 of the picture each way."""
PAN_ZOOM = 1.15
"""A pan's constant zoom, which gives it room to travel."""
FULL_TRAVEL_S = 3.0
"""Seconds a whole move takes at least; a shorter shot goes only part of the way, not faster."""
MOVES = ("zoom-in", "zoom-out", "pan-left", "pan-right", "pan-up")


@dataclass(frozen=True, slots=True)
class Window:
    """What of a picture is seen, as fractions of its width and height: 0, 0, 1, 1 is all of it."""

    left: float
    top: float
    right: float
    bottom: float

    def in_pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in a picture of that size, in pixels, 0 at the outer edge."""
        return (
            self.left * width,
            self.top * height,
            min(self.right * width, width),
            min(self.bottom * height, height),
        )

    def to_json(self) -> list[float]:
        return [round(v, 6) for v in (self.left, self.top, self.right, self.bottom)]


def window(zoom: float, x: float = 0.5, y: float = 0.5) -> Window:
    """The window of ``zoom`` (1 shows all) at ``x`` and ``y`` of the room it leaves.

    0 is the left or upper end of that room, 1 the right or lower, so no window lies outside.
    """
    side = 1.0 / zoom
    left, top = x * (1.0 - side), y * (1.0 - side)
    return Window(left, top, left + side, top + side)


@dataclass(frozen=True, slots=True)
class Move:
    """One travel of the camera. Both windows lie within the picture, so all between them do."""

    name: str
    start: Window
    end: Window

    def at(self, progress: float) -> Window:
        """The window at ``progress``, 0 to 1, of the way.

        The zoom grows by equal factors, which looks even where equal amounts would seem to slow
        down on the way in; the edges keep to straight lines, so one point of the picture stays
        where it is.
        """
        first = self.start.right - self.start.left
        last = self.end.right - self.end.left
        along = progress
        if abs(last - first) > 1e-9:
            along = (first * (last / first) ** progress - first) / (last - first)
        return Window(
            _between(self.start.left, self.end.left, along),
            _between(self.start.top, self.end.top, along),
            _between(self.start.right, self.end.right, along),
            _between(self.start.bottom, self.end.bottom, along),
        )

    def lasting(self, seconds: float) -> Move:
        """The move as it fits a shot of that length: part of the way where it is too short."""
        if seconds >= FULL_TRAVEL_S:
            return self
        return Move(self.name, self.start, self.at(seconds / FULL_TRAVEL_S))

    def to_json(self) -> dict[str, Any]:
        return {"move": self.name, "from": self.start.to_json(), "to": self.end.to_json()}


def choose_moves(pictures: int, seed: int) -> tuple[Move, ...]:
    """A move for each of so many pictures, by ``seed``; no two neighbours have the same one.

    Two seeds may choose a move of the same name, which then goes elsewhere.
    """
    moves: list[Move] = []
    for index in range(pictures):
        drawn = hashlib.sha256(f"seed {seed}, picture {index}".encode()).digest()
        before = moves[-1].name if moves else None
        names = [name for name in MOVES if name != before]
        x, y = (0.25 + 0.5 * int.from_bytes(pair) / 65535 for pair in (drawn[8:10], drawn[10:12]))
        moves.append(_move(names[int.from_bytes(drawn[:8]) % len(names)], x, y))
    return tuple(moves)


def _move(name: str, x: float, y: float) -> Move:
    """The move of that name; a zoom goes to or comes from ``x``, ``y`` of the room it leaves, and a
    pan keeps to the one it does not travel along.
    """
    whole, near = window(1.0), window(MAX_ZOOM, x, y)
    left, right = window(PAN_ZOOM, 0.0, y), window(PAN_ZOOM, 1.0, y)
    upper, lower = window(PAN_ZOOM, x, 0.0), window(PAN_ZOOM, x, 1.0)
    start, end = {
        "zoom-in": (whole, near),
        "zoom-out": (near, whole),
        "pan-left": (right, left),
        "pan-right": (left, right),
        "pan-up": (lower, upper),
    }[name]
    return Move(name, start, end)


def _between(a: float, b: float, along: float) -> float:
    return a + (b - a) * along
