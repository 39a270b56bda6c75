"""What a running batch tells whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from svd_local.catalog.jobs import Enrolment, Job, Reason
from svd_local.result import Clip, Progress


@dataclass(frozen=True, slots=True)
class Begun:
    """The batch is enrolled; ``swept`` leftovers of a dead run were removed."""

    enrolment: Enrolment
    swept: int


@dataclass(frozen=True, slots=True)
class JobBegun:
    """A lane took up a job."""

    job: Job
    lane: int


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A sign of life from a clip in the making."""

    job: Job
    lane: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class JobDone:
    """A job has its clip; ``clip.cached`` tells a hit, ``adopted`` one a dead worker had finished."""

    job: Job
    clip: Clip
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class JobPostponed:
    """A try failed; the next one is not begun before ``job.not_before``."""

    job: Job
    reason: Reason


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The job is given up."""

    job: Job
    reason: Reason


@dataclass(frozen=True, slots=True)
class JobReleased:
    """The job was given back unmade, because the batch was stopped."""

    job: Job


@dataclass(frozen=True, slots=True)
class JobLost:
    """Another worker has the job now, or it was cancelled; this one published nothing."""

    job: Job


@dataclass(frozen=True, slots=True)
class JobStalled:
    """A clip in the making has shown no sign of life for ``silent_s`` seconds; it was last heard ``doing``.

    Its lease is renewed no more. A worker process is then replaced; a batch in one process can only wait.
    """

    job: Job
    lane: int
    silent_s: float
    doing: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing can be begun now; something may be at ``until``, or when another worker is done.

    ``running`` jobs are with ``workers``, of which whoever tells it is none.
    """

    until: datetime
    queued: int
    running: int
    workers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Paused:
    """No clip is begun while there is too little room, or the catalog cannot be used."""

    why: str
    hint: str
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Resumed:
    """What the batch was paused for has passed."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The batch was asked to stop: after the clips at hand, or at once where ``cancelling``."""

    cancelling: bool


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker process was started on ``gpu`` (None: the CPU); ``log`` has what it says beside events."""

    worker: int
    gpu: str | None
    pid: int
    log: Path


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker process died, or gave up its GPU; its jobs were queued again.

    Another takes its place in ``restart_s`` seconds; None where none does.
    """

    worker: int
    gpu: str | None
    why: str
    restart_s: float | None


@dataclass(frozen=True, slots=True)
class WorkerSetAside:
    """No worker is started in this place any more: on its ``gpu`` one after the other failed."""

    worker: int
    gpu: str | None
    why: str


Event = (
    Begun
    | JobBegun
    | JobProgress
    | JobDone
    | JobPostponed
    | JobFailed
    | JobReleased
    | JobLost
    | JobStalled
    | Waiting
    | Paused
    | Resumed
    | Stopping
    | WorkerStarted
    | WorkerLost
    | WorkerSetAside
)
EventCallback = Callable[[Event], None]
"""Called in the thread that runs the batch, one event at a time. What it raises stops the batch."""
