"""What the job store takes and answers: values, independent of the database."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
"""``failed`` is the dead-letter state: given up, with the reason. What failed and will be tried again
is ``queued``."""

RunState = Literal["running", "ended", "failed", "lost"]
"""``ended`` with its summary, ``failed`` with an error; ``lost``: it was killed, or has not been heard of
for ``RUN_HOLDS_S``."""
RUN_HOLDS_S = 60.0
"""How long a run is taken to be running after it was last noted."""

NOT_IN_MANIFEST = "not-in-manifest"
"""The reason's code of a job that its manifest lost: cancelled, or running still and never to be queued
again. It comes back with its row."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enrol. ``key`` identifies it within its batch."""

    key: str
    row: int
    index: int
    fields: Mapping[str, Any]
    """JSON-able fields of the request, complete: a retry makes the same clip."""
    folder: str | None = None
    name: str | None = None
    priority: int = 0
    group: str = ""
    """Jobs of one group follow one another within their priority, so that nothing is reloaded."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What enrolling came to. ``known`` jobs were there before and are as they were."""

    batch: Batch
    added: int
    known: int
    cancelled: int
    """Jobs that were queued and are no longer in the manifest."""
    leaving: int = 0
    """Running ones that are no longer in it: made where their workers finish them, else cancelled."""
    options: Mapping[str, Any] | None = None
    """What this command was given; the batch has what its first one was."""
    several: frozenset[int] = frozenset()
    """Rows that stand for more than one job, which differ in their seeds."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a command that works on a batch begins no clip of it now."""

    why: str
    hint: str
    since: datetime
    who: str | None = None
    """Which command."""

    def to_json(self) -> dict[str, Any]:
        return {
            "why": self.why,
            "hint": self.hint,
            "since": _text(self.since),
            "who": self.who,
        }


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch, and how many of its jobs are in each state."""

    id: str
    name: str
    created_at: datetime
    manifest: str | None
    folder: str
    """Output folder, absolute."""
    counts: Mapping[State, int] = field(default_factory=dict)
    options: Mapping[str, Any] | None = None
    """What its first command was given that is part of what the clips are; null where not known."""
    skipped: Mapping[str, Any] | None = None
    """The rows of the manifest that its last command left out as bad; see ``batch.skipped``."""
    pause: Pause | None = None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def wanted(self) -> int:
        """Jobs that are to come to a video: all but the cancelled."""
        return self.total - self.counts.get("cancelled", 0)

    @property
    def finished(self) -> bool:
        """Whether no job is queued or running."""
        return not (self.counts.get("queued") or self.counts.get("running"))

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "created_at": self.created_at.isoformat(timespec="milliseconds"),
            "manifest": self.manifest,
            "folder": self.folder,
            "options": None if self.options is None else dict(self.options),
            "skipped": None if self.skipped is None else dict(self.skipped),
            "pause": None if self.pause is None else self.pause.to_json(),
            "total": self.total,
            "wanted": self.wanted,
            "counts": {state: self.counts.get(state, 0) for state in STATES},
        }


@dataclass(frozen=True, slots=True)
class Run:
    """One command's work on a batch."""

    began_at: datetime
    ended_at: datetime
    """Of a run that is running, or was lost: when it was last heard of."""
    figures: Mapping[str, Any]
    """What it came to, as its summary has it; of one that was lost as far as that was noted."""
    state: RunState = "ended"
    who: str | None = None
    """The command, by the name of its sign of life; null of runs before that was noted."""
    pause: Pause | None = None

    @property
    def seconds(self) -> float:
        """From its beginning to its end, or to when it was last heard of."""
        return (self.ended_at - self.began_at).total_seconds()

    def lost(self) -> Run:
        """The same, now that its command is known to be dead."""
        return dataclasses.replace(self, state="lost", pause=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "who": self.who,
            "began_at": _text(self.began_at),
            "ended_at": _text(self.ended_at),
            "pause": None if self.pause is None else self.pause.to_json(),
            **self.figures,
        }


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a try failed: the error's ``code``, message and hint, as people are told them."""

    code: str
    message: str
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands."""

    id: int
    batch_id: str
    key: str
    row: int
    index: int
    fields: Mapping[str, Any]
    folder: str | None
    name: str | None
    priority: int
    state: State
    attempt: int
    """Tries begun so far; one that was released again does not count."""
    not_before: datetime
    worker: str | None
    """Who runs it, or ran it last."""
    started_at: datetime | None
    finished_at: datetime | None
    clip_id: str | None
    path: Path | None
    """The finished video, absolute."""
    cached: bool
    """Whether the clip was found in the catalog instead of made."""
    reason: Reason | None
    """Why the last try failed, or why the job was cancelled."""
    lost: int = 0
    """Of ``attempt``, the tries whose worker ended and nobody saw of what; see ``lost.LOST_TRIES``."""

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "row": self.row,
            "index": self.index,
            "key": self.key,
            "state": self.state,
            "priority": self.priority,
            "attempt": self.attempt,
            "not_before": _text(self.not_before),
            "worker": self.worker,
            "started_at": _text(self.started_at),
            "finished_at": _text(self.finished_at),
            "clip_id": self.clip_id,
            "path": None if self.path is None else str(self.path),
            "cached": self.cached,
            "reason": None if self.reason is None else self.reason.to_json(),
            "fields": dict(self.fields),
            "folder": self.folder,
            "name": self.name,
        }


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on ``job`` until it is given up, lost, or not renewed in time.

    ``token`` is random and new for each claim: whoever holds the current one may publish.
    """

    job: Job
    token: str
    lease_s: float


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
