"""From what was asked to what will run: defaults filled in, ranges kept, corrections recorded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from svd_local.request.model import ClipRequest
from svd_local.result import Correction

MIN_FRAMES, MAX_FRAMES = 14, 25
MIN_FPS, MAX_FPS, DEFAULT_FPS = 6, 8, 7
STILLS_FPS = 24
STILLS_SECONDS = 4.0
STILLS_MAX_SECONDS = 60.0
_STEPS = {"fast": 10, "standard": 25, "high": 30}
_SHORT_SIDE = {"720p": 720, "1080p": 1080}

_GENERATED_ONLY = (
    *("checkpoint", "engine", "device", "steps", "motion", "noise", "guidance", "speed"),
    *("vram_budget", "allow_approximate"),
)
"""Fields that mean something only where a model makes the clip."""

Schedule = Literal["karras", "align-your-steps"]


@dataclass(frozen=True, slots=True)
class Native:
    """What a checkpoint was trained for: its size in pixels and its frame count."""

    width: int = 1024
    height: int = 576
    frames: int = 25


@dataclass(frozen=True, slots=True)
class GeneratedParameters:
    """A generated clip's parameters, as they run. ``seed`` is None until one is drawn."""

    frames: int
    fps: int
    steps: int
    schedule: Schedule
    seed: int | None
    motion: int
    noise: float
    guidance: tuple[float, float]
    width: int
    height: int

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "guidance": list(self.guidance)}


@dataclass(frozen=True, slots=True)
class StillsParameters:
    """An animated-stills clip's parameters. ``frames`` is ``duration_s * fps``, rounded."""

    duration_s: float
    fps: int
    frames: int
    width: int
    height: int

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class _Recorder:
    """Collects corrections while values are brought into range."""

    def __init__(self) -> None:
        self.corrections: list[Correction] = []

    def change(self, field: str, old: Any, new: Any, why: str) -> None:
        if old != new:
            self.corrections.append(Correction(field, old, new, why))

    def whole(self, field: str, value: int, low: int, high: int, who: str) -> int:
        kept = min(max(value, low), high)
        bound = f"at least {low}" if kept > value else f"at most {high}"
        self.change(field, value, kept, f"{who} {bound}")
        return kept

    def real(self, field: str, value: float, low: float, high: float, who: str) -> float:
        kept = min(max(value, low), high)
        bound = f"at least {low:g}" if kept > value else f"at most {high:g}"
        self.change(field, value, kept, f"{who} {bound}")
        return kept


def generated_parameters(
    request: ClipRequest, native: Native
) -> tuple[GeneratedParameters, tuple[Correction, ...]]:
    """The parameters a checkpoint runs ``request`` with, and what was corrected on the way.

    ``duration`` gives the frame count where ``frames`` is not given, else the frame rate where that
    is not given; with both given it is corrected to what they come to.
    """
    record = _Recorder()
    fps = DEFAULT_FPS
    if request.fps is not None:
        fps = record.whole("fps", request.fps, MIN_FPS, MAX_FPS, "generated clips play at")
    elif request.duration is not None and request.frames is not None:
        fps = min(max(round(request.frames / request.duration), MIN_FPS), MAX_FPS)
    if request.frames is not None:
        frames = record.whole(
            "frames", request.frames, MIN_FRAMES, MAX_FRAMES, "the checkpoint makes"
        )
    elif request.duration is not None:
        frames = min(max(round(request.duration * fps), MIN_FRAMES), MAX_FRAMES)
    else:
        frames = native.frames
    if request.duration is not None and abs(request.duration - frames / fps) > 0.5 / fps:
        record.change(
            "duration", request.duration, round(frames / fps, 3), f"{frames} frames at {fps} fps"
        )
    steps, schedule = _steps(request, record)
    low, high = request.guidance or (1.0, 3.0)
    if low > high:
        record.change("guidance", [low, high], [high, low], "the smaller value comes first")
        low, high = high, low
    width, height = request.size or (native.width, native.height)
    size = (_multiple(width, 8), _multiple(height, 8))
    record.change("size", [width, height], list(size), "the model works in multiples of 8 pixels")
    motion = 127 if request.motion is None else request.motion
    noise = 0.02 if request.noise is None else request.noise
    return (
        GeneratedParameters(
            frames=frames,
            fps=fps,
            steps=steps,
            schedule=schedule,
            seed=request.seed,
            motion=record.whole("motion", motion, 1, 255, "motion buckets are"),
            noise=record.real("noise", noise, 0.0, 1.0, "the noise strength is"),
            guidance=(low, high),
            width=size[0],
            height=size[1],
        ),
        tuple(record.corrections),
    )


def stills_parameters(
    request: ClipRequest, *, default_size: tuple[int, int] = (1024, 576)
) -> tuple[StillsParameters, tuple[Correction, ...]]:
    """The parameters of an animated-stills clip, rendered at the size of the finished file."""
    record = _Recorder()
    seconds = STILLS_SECONDS if request.duration is None else request.duration
    seconds = record.real("duration", seconds, 0.5, STILLS_MAX_SECONDS, "animated stills last")
    for name in ("frames", "fps"):
        record.change(
            name, getattr(request, name), None, "animated stills follow the duration at 24 fps"
        )
    for name in _GENERATED_ONLY:
        asked, usual = getattr(request, name), ClipRequest.model_fields[name].default
        if asked != usual:
            record.change(name, asked, None, "animated stills are made without a model")
    asked = request.size or default_size
    even = (_multiple(asked[0], 2), _multiple(asked[1], 2))
    record.change("size", list(asked), list(even), "video needs even sides")
    width, height = output_size(even, request.resolution)
    frames = max(2, round(seconds * STILLS_FPS))
    return (
        StillsParameters(frames / STILLS_FPS, STILLS_FPS, frames, width, height),
        tuple(record.corrections),
    )


def output_size(size: tuple[int, int], resolution: str) -> tuple[int, int]:
    """Width and height of the file: ``size`` itself, or its short side at 720 or 1080 pixels."""
    short = _SHORT_SIDE.get(resolution)
    if short is None:
        return size
    scale = short / min(size)
    return _multiple(size[0] * scale, 2), _multiple(size[1] * scale, 2)


def _steps(request: ClipRequest, record: _Recorder) -> tuple[int, Schedule]:
    """Steps and schedule: the ten-step one only where ``fast`` was asked for without a count."""
    if request.steps is None:
        return _STEPS[
            request.quality
        ], "align-your-steps" if request.quality == "fast" else "karras"
    return record.whole("steps", request.steps, 1, 100, "the sampler takes"), "karras"


def _multiple(value: float, of: int) -> int:
    return max(of, round(value / of) * of)
