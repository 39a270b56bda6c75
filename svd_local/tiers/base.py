"""What a tier is: one method that makes frames, over immutable values.

The generator asks a tier two things, in this order: how would it make this request (``plan``; cheap,
no model is loaded, so that the cache can be asked first), and, on a cache miss, the frames
(``generate``). ``availability`` answers for status reports and for programs that ask beforehand.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from svd_local.errors import Cancelled
from svd_local.request import ClipRequest
from svd_local.result import Correction, Kind, Memory, Progress, ProgressCallback, Timings
from svd_local.tiers.policy import Policy
from svd_local.tiers.spent import Spent

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from svd_local.keyframe.types import Keyframe


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a tier can be used on this machine as it is set up, and why, in one sentence."""

    available: bool
    reason: str
    hint: str = ""
    leaves_machine: bool = False
    """Whether using it sends the picture or the words to another machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a tier would make a request. Everything is known before any model is loaded."""

    tier: str
    kind: Kind
    size: tuple[int, int]
    """Width and height the keyframe is wanted at; for animated stills the working size."""
    parameters: Mapping[str, Any]
    """Effective parameters, JSON-able. ``seed`` is filled in by the generator where None."""
    fingerprint: Mapping[str, Any]
    """What of the tier changes pixels beside the parameters: revisions, engine, precision, versions."""
    fps: float
    output_size: tuple[int, int]
    """Width and height of the finished file."""
    pictures: Literal["first", "all", "none"] = "first"
    """Which of the request's pictures become keyframes."""
    corrections: tuple[Correction, ...] = ()
    warnings: tuple[str, ...] = ()
    checkpoint: str | None = None
    engine: str | None = None
    device: str | None = None
    speed: str | None = None
    synthetic: bool = False
    leaves_machine: bool = False
    """Whether another machine makes the frames, so that none of this one's is occupied by them."""
    spent_s: float = 0.0
    """Seconds of the tier's deadline that are gone before it makes the frames: for planning, and for all
    that was prepared since, but for waiting and for a picture painted here."""

    def seeded(self, seed: int) -> Plan:
        """The same plan with ``seed`` as it will run."""
        return dataclasses.replace(self, parameters={**self.parameters, "seed": seed})


class Monitor:
    """One clip's line to whoever waits for it: progress outward, cancellation inward."""

    def __init__(
        self,
        progress: ProgressCallback | None = None,
        cancelled: Callable[[], bool] | None = None,
        tier: str | None = None,
        started: float | None = None,
        spent: Spent | None = None,
    ) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._tier = tier
        self._started = time.monotonic() if started is None else started
        self.spent = spent or Spent()
        """What of the clip's time was not work on it."""

    def for_tier(self, tier: str) -> Monitor:
        """The same line, its messages marked with the tier's name."""
        return Monitor(self._progress, self._cancelled, tier, self._started, self.spent)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the clip began."""
        return time.monotonic() - self._started

    def report(self, stage: str, done: int = 0, total: int = 0, note: str = "") -> None:
        """Say where the work stands, and stop it where that was asked.

        Raises:
            Cancelled: the caller asked to stop, or its progress callback raised.
        """
        self.check()
        if self._progress is None:
            return
        try:
            self._progress(Progress(stage, done, total, self.elapsed_s, self._tier, note))
        except Cancelled:
            raise
        except Exception as error:
            raise Cancelled(f"the progress callback raised {error!r}") from error

    def waits(self, note: str = "") -> None:
        """Say that the clip waits for others now. Raises as ``report``."""
        self.report("wait", note=note)

    def downloading(self, done: int, total: int, file: str) -> None:
        """Say how many bytes of a download are here, in whole megabytes. Raises as ``report``."""
        self.report("download", done // 10**6, total // 10**6, note=file)

    def check(self) -> None:
        """Raise ``Cancelled`` where the caller asked to stop."""
        if self._cancelled is not None and self._cancelled():
            raise Cancelled("cancelled by the caller")


@dataclass(frozen=True, slots=True)
class Job:
    """One clip to make: the request, the tier's own plan for it, and the keyframes it asked for."""

    request: ClipRequest
    plan: Plan
    keyframes: tuple[Keyframe, ...]
    monitor: Monitor


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of a clip only once its last frame is there."""

    memory: Memory | None = None
    timings: Timings = field(default_factory=Timings)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames a tier makes, possibly while they are read.

    ``chunks`` yields uint8 arrays, ``count`` frames in all, which nobody changes afterwards: they wait
    for the encoder. Their shape is (n, height, width, 3) where ``pixels`` is ``rgb24``, and
    (n, height * 3 / 2, width) where it is ``yuv420p``, laid out as `media.planar` says. The iterator
    is read once and in order, to its end or until it is closed (where it has a ``close``): a tier may
    be busy with it till then. It may raise `BeginAgain`. The rest says how the frames are really made.
    """

    count: int
    width: int
    height: int
    chunks: Iterable[np.ndarray[Any, np.dtype[np.uint8]]]
    pixels: Literal["rgb24", "yuv420p"] = "rgb24"
    ended: Callable[[], Ending] = Ending
    """Asked when ``chunks`` was read to its end."""
    warnings: tuple[str, ...] = ()
    ran: Mapping[str, Any] = field(default_factory=dict)
    """What turned out differently from the plan and changes pixels, as a precision retried with;
    overrides the plan's ``fingerprint``, and its parameters of the same name."""
    engine: str | None = None
    """The engine that ran, where it is not the planned one."""
    fps: float | None = None
    """Frames a second, where the service that made them chose others than the plan's."""
    output_size: tuple[int, int] | None = None
    """Width and height of the finished file, where the tier left them to a service."""
    ready: Path | None = None
    """A file that holds just these frames at ``output_size`` and plays everywhere: kept as it is where
    nothing is drawn over them. It lies there until the frames were read."""
    keyframe: Keyframe | None = None
    """The picture they begin with, where the tier had it painted in place of the job's."""
    manifest: Mapping[str, Any] | None = None
    """How the frames came to be, for the manifest file beside the video, where the tier keeps one."""


class BeginAgain(Exception):
    """Raised from reading ``Frames.chunks``: every frame read so far is void, and here are others.

    A tier that hands out frames while it still works on the clip may find out late that they are no
    good. Whoever reads them begins anew with ``frames``, which may be made otherwise, and publishes
    nothing of what came before. It is no error, and no `SvdLocalError`.
    """

    def __init__(self, frames: Frames) -> None:
        super().__init__("the frames so far are void")
        self.frames = frames


class Tier(Protocol):
    """One way to make a clip."""

    @property
    def id(self) -> str:
        """The name ``--tier`` takes."""
        ...

    @property
    def policy(self) -> Policy | None:
        """How much trouble it puts up with; None where it asks nobody else."""
        ...

    def availability(self, request: ClipRequest | None = None) -> Availability:
        """Whether it can be used here, cheaply: no model is loaded, nothing is sent.

        With ``request`` given, for that request (its device, checkpoint and consent).
        """
        ...

    def plan(self, request: ClipRequest, monitor: Monitor | None = None) -> Plan:
        """How it would make ``request``. ``monitor`` hears of what takes long, as a download.

        Raises:
            TierUnavailable: it cannot; the reason is ``availability``'s or the checkpoint's.
            InvalidRequest: no tier of this kind could.
            Cancelled: the caller asked to stop.
        """
        ...

    def generate(self, job: Job) -> Frames:
        """Make the frames, or begin to.

        Raises:
            TierBusy: not now; maybe later.
            TierFailed: not at all.
            Cancelled: the caller asked to stop.
            The same, from reading the frames.
        """
        ...

    def close(self) -> None:
        """Give back what it holds: models, memory, connections."""
        ...
