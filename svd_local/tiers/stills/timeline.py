"""Which picture shows when: shots that overlap in cross-fades, and how far each has travelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from svd_local.tiers.stills.camera import Move, Window
from svd_local.tiers.stills.easing import ramped, smoothstep

FADE_S = 0.8
"""Seconds a cross-fade lasts where the shots are long enough."""
FADE_SHARE = 0.4
"""The part of a picture's share of the clip that a fade takes at most."""
REST_S = 1.0
"""Seconds the camera takes to gather speed, and to come to rest."""
REST_SHARE = 0.25
"""The part of a shot that each of these takes at most."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture's time on screen. Times are frame numbers, parts of a frame included."""

    picture: int
    """Which picture, from 0."""
    move: Move
    start: float
    end: float
    fade_in: float
    """Frames over which it covers the picture before it; 0 for the first."""
    fade_out: float
    ramp_in: float
    """Part of the shot in which the camera gathers speed."""
    ramp_out: float

    def window(self, frame: float) -> Window:
        """What of the picture is seen in that frame."""
        t = (frame - self.start) / (self.end - self.start)
        return self.move.at(ramped(t, self.ramp_in, self.ramp_out))

    def opacity(self, frame: float) -> float:
        """How much of the picture before it it covers: 0 to 1, rising from its start."""
        if self.fade_in == 0:
            return 1.0
        return smoothstep((frame - self.start) / self.fade_in)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.move.to_json(),
            "picture": self.picture,
            "start_frame": round(self.start, 3),
            "end_frame": round(self.end, 3),
            "ramp_in": round(self.ramp_in, 4),
            "ramp_out": round(self.ramp_out, 4),
            "fade_in_frames": round(self.fade_in, 3),
            "fade_out_frames": round(self.fade_out, 3),
        }


def timeline(moves: Sequence[Move], frames: int, fps: float) -> tuple[Shot, ...]:
    """The shots of a clip of ``frames`` frames, one per move, in order.

    All last equally long and neighbours overlap by a fade; the first frame is the first shot's
    beginning and the last frame the last shot's end. The camera starts and stops gently only at the
    two ends of the clip: within it every picture is still moving at full speed through its fades.

    Raises:
        ValueError: no moves, or fewer than two frames.
    """
    if not moves or frames < 2:
        raise ValueError(f"{len(moves)} pictures in {frames} frames make no sequence")
    last, count = frames - 1, len(moves)
    fade = 0.0 if count == 1 else min(FADE_S * fps, FADE_SHARE * last / count)
    length = (last + (count - 1) * fade) / count
    rest = min(REST_S * fps / length, REST_SHARE)
    shots = []
    for index, move in enumerate(moves):
        first, final = index == 0, index == count - 1
        start = index * (length - fade)
        shots.append(
            Shot(
                picture=index,
                move=move.lasting(length / fps),
                start=start,
                end=float(last) if final else start + length,
                fade_in=0.0 if first else fade,
                fade_out=0.0 if final else fade,
                ramp_in=rest if first else 0.0,
                ramp_out=rest if final else 0.0,
            )
        )
    return tuple(shots)


def visible(shots: Sequence[Shot], frame: int) -> tuple[Shot, ...]:
    """The shots seen in that frame, bottom first: one, or two within a fade."""
    top = max((s for s in shots if s.start <= frame), key=lambda s: s.start)
    if top.opacity(frame) == 1.0:
        return (top,)
    below = shots[top.picture - 1]
    return (below,) if top.opacity(frame) == 0.0 else (below, top)
