"""What happened: the values a finished clip, and everything on the way to it, is reported in.

Standard library only, so that the engine and the benchmarks can use them bare. Every value is
frozen; ``Clip.to_json`` is the document the command line prints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["generated", "animated-stills", "placeholder"]
Outcome = Literal["ok", "unavailable", "busy", "failed"]


@dataclass(frozen=True, slots=True)
class Correction:
    """A value that was out of range but clear, and what it became."""

    field: str
    from_: Any
    to: Any
    why: str

    def to_json(self) -> dict[str, Any]:
        return {"field": self.field, "from": self.from_, "to": self.to, "why": self.why}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rung of the ladder: which tier was asked, and how it answered."""

    tier: str
    outcome: Outcome
    code: str | None = None
    reason: str | None = None
    retry_after_s: float | None = None
    elapsed_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "elapsed_s": round(self.elapsed_s, 3)}


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life.

    ``stage`` is one of ``wait`` (for other clips, that are before it), ``download``, ``load``,
    ``keyframe``, ``encode-image``, ``denoise``, ``decode``, ``render``, ``encode-video``, ``publish``; ``done`` of ``total`` steps or frames of
    it (megabytes of a download) are over (0 of 0 where the stage has no parts); ``elapsed_s`` counts
    from the clip's beginning. Frames are encoded while they are made, and ``encode-video`` is told of
    once the last one is.
    """

    stage: str
    done: int = 0
    total: int = 0
    elapsed_s: float = 0.0
    tier: str | None = None
    note: str = ""


ProgressCallback = Callable[[Progress], None]
"""Called from the thread that makes the clip. An exception it raises cancels the clip."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory plan a local clip ran under. Bytes of device memory; null where not measured."""

    plan: str
    budget_bytes: int | None = None
    predicted_peak_bytes: int | None = None
    measured_peak_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of work per phase, and beside it; null where the tier has no such phase.

    Waiting is in no phase: for a turn on the GPU, for an encoder that is behind, for frames that
    are not there yet. ``encode_video_s`` is what the video encoder and the checks of its file worked;
    frames are encoded while the next ones are decoded, so phases may overlap, and their sum may be
    more or less than a clip's own time. ``decode_s`` ends when the last frame is in main memory. Of a
    clip that was begun again the phases are of the try that was published.

    Where several clips are made at once, a clip's ``elapsed_s``, from the call to the file, has others'
    work in it. ``waited_s`` is how long it stood in line behind them, with nothing done for it: what
    remains is its own, ``Clip.worked_s``. ``turn_s`` is how long it had the machine, or the service,
    to itself, so that no other clip's frames could be made there: the pace at which such clips can
    follow one another. Both are null in results of versions that did not know them.
    """

    load_s: float | None = None
    keyframe_s: float | None = None
    encode_image_s: float | None = None
    denoise_s: float | None = None
    decode_s: float | None = None
    encode_video_s: float | None = None
    waited_s: float | None = None
    turn_s: float | None = None

    def worked_s(self, elapsed_s: float) -> float:
        """What of ``elapsed_s`` was work on the clip; for old results as near as their phases tell."""
        if self.waited_s is not None:
            return max(0.0, elapsed_s - self.waited_s)
        if self.denoise_s is None:
            return elapsed_s
        others = (self.keyframe_s or 0.0) + (self.encode_video_s or 0.0)
        return min(elapsed_s, self._on_device_s + others)

    def held_s(self, elapsed_s: float) -> float:
        """``turn_s``; for old results as near as their phases tell."""
        if self.turn_s is not None:
            return self.turn_s
        return elapsed_s if self.denoise_s is None else min(elapsed_s, self._on_device_s)

    @property
    def _on_device_s(self) -> float:
        phases = (self.load_s, self.encode_image_s, self.denoise_s, self.decode_s)
        return sum(seconds or 0.0 for seconds in phases)

    def to_json(self) -> dict[str, Any]:
        return {k: None if v is None else round(v, 4) for k, v in dataclasses.asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Quality:
    """Whether the clip passed its checks; ``checks`` maps a check's name to what it measured."""

    passed: bool
    checks: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"passed": self.passed, "checks": dict(self.checks)}


@dataclass(frozen=True, slots=True)
class Files:
    """The published files; null where the kind of result has none."""

    video: Path | None = None
    poster: Path | None = None
    manifest: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "video": _text(self.video),
            "poster": _text(self.poster),
            "manifest": _text(self.manifest),
        }


@dataclass(frozen=True, slots=True)
class Clip:
    """One request's outcome. ``to_json`` has every key at every time; what does not apply is null.

    ``frames``, ``fps``, ``width``, ``height`` and ``duration_s`` describe the file as it was
    decoded back, not as it was asked for. ``parameters`` are the effective ones, as they ran.
    """

    kind: Kind
    path: Path
    tier: str
    attempts: tuple[Attempt, ...]
    parameters: Mapping[str, Any]
    files: Files
    synthetic: bool = False
    checkpoint: str | None = None
    engine: str | None = None
    device: str | None = None
    speed: str | None = None
    frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    seed: int | None = None
    elapsed_s: float = 0.0
    """From the call to the clip, waiting for other clips included."""
    cached: bool = False
    corrections: tuple[Correction, ...] = ()
    warnings: tuple[str, ...] = ()
    memory: Memory | None = None
    timings: Timings = field(default_factory=Timings)
    quality: Quality | None = None
    fingerprint: str | None = None
    id: str | None = None
    """The clip's name in the catalog; null for a placeholder, which has no row."""

    @property
    def is_video(self) -> bool:
        """False for a placeholder, which is never counted as a video."""
        return self.kind != "placeholder"

    @property
    def worked_s(self) -> float:
        """The clip's own seconds: of ``elapsed_s``, what was not spent waiting for other clips."""
        return self.timings.worked_s(self.elapsed_s)

    @property
    def exit_status(self) -> int:
        return 0 if self.is_video else 4

    def to_json(self) -> dict[str, Any]:
        return {
            "success": True,
            "kind": self.kind,
            "synthetic": self.synthetic,
            "path": str(self.path),
            "id": self.id,
            "tier": self.tier,
            "checkpoint": self.checkpoint,
            "engine": self.engine,
            "device": self.device,
            "speed": self.speed,
            "frames": self.frames,
            "fps": _whole(self.fps),
            "width": self.width,
            "height": self.height,
            "duration_s": None if self.duration_s is None else round(self.duration_s, 3),
            "seed": self.seed,
            "elapsed_s": round(self.elapsed_s, 3),
            "cached": self.cached,
            "parameters": dict(self.parameters),
            "corrections": [c.to_json() for c in self.corrections],
            "warnings": list(self.warnings),
            "attempts": [a.to_json() for a in self.attempts],
            "memory": None if self.memory is None else self.memory.to_json(),
            "timings": self.timings.to_json(),
            "quality": None if self.quality is None else self.quality.to_json(),
            "fingerprint": self.fingerprint,
            "files": self.files.to_json(),
        }


def _whole(value: float | None) -> float | None:
    """7 rather than 7.0, as a person would write it."""
    return int(value) if value is not None and value == int(value) else value


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
