"""From what was asked to what will run: defaults filled in, ranges kept, corrections recorded."""

from __future__ import annotations

import dataclasses
import math
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

DISTILLED_STEPS, MAX_DISTILLED_STEPS = 4, 8
_CACHE_INTERVAL, _MAX_CACHE_INTERVAL, _CACHE_DEPTH = 3, 10, 1
CACHED_SPEEDS = ("cached", "fp8+cached")
"""Speeds that cache features."""
_APPROXIMATION = ("speed", "cache_interval", "cache_depth")
_GENERATED_ONLY = (
    *("checkpoint", "engine", "device", "steps", "motion", "noise", "guidance"),
    *_APPROXIMATION,
    *("vram_budget", "allow_approximate", "compile"),
)
"""Fields that mean something only where a model makes the clip."""

Schedule = Literal["karras", "align-your-steps", "consistency"]


@dataclass(frozen=True, slots=True)
class Native:
    """What a checkpoint was trained for: its size in pixels and its frame count.

    ``cache_depths`` is how many layers of its way down features can be cached behind; 0 for what does
    not run here, and so takes no ``speed``.
    """

    width: int = 1024
    height: int = 576
    frames: int = 25
    cache_depths: int = 0


@dataclass(frozen=True, slots=True)
class GeneratedParameters:
    """A generated clip's parameters, as they run. ``seed`` is None until one is drawn.

    ``cache_interval`` and ``cache_depth`` are None, and no part of the JSON, where nothing is cached.
    """

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
    cache_interval: int | None = None
    cache_depth: int | None = None

    def to_json(self) -> dict[str, Any]:
        values = {**dataclasses.asdict(self), "guidance": list(self.guidance)}
        for name in ("cache_interval", "cache_depth"):
            if values[name] is None:
                del values[name]
        return values


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
            "frames", request.frames, MIN_FRAMES, MAX_FRAMES, "generated clips have"
        )
    elif request.duration is not None:
        frames = min(max(round(request.duration * fps), MIN_FRAMES), MAX_FRAMES)
    else:
        frames = native.frames
    if request.duration is not None and abs(request.duration - frames / fps) > 0.5 / fps:
        record.change(
            "duration", request.duration, round(frames / fps, 3), f"{frames} frames at {fps} fps"
        )
    usual = _usual(request, native)
    steps, schedule = _steps(request, usual, record)
    low, high = _guidance(request, usual, record)
    cache_interval, cache_depth = _caching(request, native, record)
    width, height = request.size or (native.width, native.height)
    size = (_multiple(width, 8), _multiple(height, 8))
    record.change("size", [width, height], list(size), "the model works in multiples of 8 pixels")
    motion = usual.motion if request.motion is None else request.motion
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
            cache_interval=cache_interval,
            cache_depth=cache_depth,
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


@dataclass(frozen=True, slots=True)
class _Usual:
    """What a kind of checkpoint takes where the request leaves it open, and the most it takes."""

    motion: int
    guidance: tuple[float, float]
    most_guidance: float
    most_steps: int
    distilled: bool


_FULL = _Usual(127, (1.0, 3.0), math.inf, 100, distilled=False)
_DISTILLED = _Usual(80, (1.0, 1.2), 1.5, MAX_DISTILLED_STEPS, distilled=True)
"""As AnimateLCM's authors run and advise it (arXiv 2402.00769)."""


def _usual(request: ClipRequest, native: Native) -> _Usual:
    return _DISTILLED if request.speed == "distilled" and native.cache_depths else _FULL


def _steps(request: ClipRequest, usual: _Usual, record: _Recorder) -> tuple[int, Schedule]:
    """Steps and schedule: the ten-step one only where ``fast`` was asked for without a count."""
    who = "a distilled checkpoint takes" if usual.distilled else "the sampler takes"
    schedule: Schedule = "consistency" if usual.distilled else "karras"
    if request.steps is not None:
        return record.whole("steps", request.steps, 1, usual.most_steps, who), schedule
    if usual.distilled:
        return DISTILLED_STEPS, schedule
    return _STEPS[request.quality], "align-your-steps" if request.quality == "fast" else schedule


def _guidance(request: ClipRequest, usual: _Usual, record: _Recorder) -> tuple[float, float]:
    """Guidance of the first and the last frame, in order and not above what is usual."""
    asked = request.guidance or usual.guidance
    kept = (min(min(asked), usual.most_guidance), min(max(asked), usual.most_guidance))
    why = "the smaller value comes first"
    if max(asked) > usual.most_guidance:
        why = f"a distilled checkpoint takes at most {usual.most_guidance:g}"
    record.change("guidance", list(asked), list(kept), why)
    return kept


def _caching(
    request: ClipRequest, native: Native, record: _Recorder
) -> tuple[int | None, int | None]:
    """Interval and depth of the cache, None where the speed is another."""
    if not native.cache_depths:
        for name in _APPROXIMATION:
            asked = getattr(request, name)
            if asked != ClipRequest.model_fields[name].default:
                record.change(name, asked, None, "only the local tier has speeds")
        return None, None
    if request.speed not in CACHED_SPEEDS:
        for name in ("cache_interval", "cache_depth"):
            record.change(name, getattr(request, name), None, "only the cached speeds cache")
        return None, None
    interval = _CACHE_INTERVAL if request.cache_interval is None else request.cache_interval
    depth = _CACHE_DEPTH if request.cache_depth is None else request.cache_depth
    return (
        record.whole("cache_interval", interval, 1, _MAX_CACHE_INTERVAL, "cache intervals are"),
        record.whole("cache_depth", depth, 1, native.cache_depths, "the network's depth is"),
    )


def _multiple(value: float, of: int) -> int:
    return max(of, round(value / of) * of)
