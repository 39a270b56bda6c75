"""A job as the report tells it: where it stands, what was made, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svd_local.catalog import StoredClip
from svd_local.catalog.jobs import Job
from svd_local.storage.names import parse_stem

PLACEHOLDER, FILE_GONE, UNREADABLE, QUALITY = (
    "placeholder-only",
    "file-gone",
    "unreadable",
    "quality-check",
)
"""Codes of what can be wrong with a job that is done. A failed one has its error's."""

_HINTS = {
    PLACEHOLDER: "Queue it again once a tier that makes videos is available.",
    FILE_GONE: "Bring the file back, or queue the job again to have it made anew.",
    UNREADABLE: "The disk may be failing; queue the job again to have it made anew.",
    QUALITY: "Look at the clip before it is used.",
}
_MADE = (
    "engine",
    "device",
    "seed",
    "frames",
    "fps",
    "width",
    "height",
    "timings",
    "quality",
    "parameters",
)
"""What is taken from a clip's document as it stands there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One job. Every value is JSON-able; what does not apply is None or empty."""

    row: int
    index: int
    key: str
    state: str
    attempt: int
    """Tries begun so far."""
    worker: str | None
    started_at: str | None
    """Of the last try; like all moments ISO 8601 with a time zone."""
    finished_at: str | None
    reason: Mapping[str, str] | None
    """Why the last try failed or the job was cancelled: ``code``, ``message``, ``hint``."""
    problem: Mapping[str, str] | None
    """What somebody should look at, likewise; of a failed job its reason."""
    title: str | None
    prompt: str | None
    pictures: list[str]
    """File names of the source pictures."""
    video: bool
    """Whether there is a video. A placeholder is none, nor is a file that is gone."""
    several: bool = False
    """Whether its row has other clips, from which it differs in its seed."""
    cached: bool = False
    shared: bool = False
    """Whether its file is that of the clip that was found, and not one of its own."""
    kind: str | None = None
    synthetic: bool = False
    clip_id: str | None = None
    tier: str | None = None
    checkpoint: str | None = None
    speed: str | None = None
    engine: str | None = None
    device: str | None = None
    seed: int | None = None
    """The clip's; of one that is not made, the one it is to have."""
    frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    elapsed_s: float | None = None
    """Seconds from the call to the clip when it was made, waiting for other clips included."""
    worked_s: float | None = None
    """Of these, the clip's own."""
    bytes: int | None = None
    fingerprint: str | None = None
    timings: Mapping[str, float | None] = field(default_factory=dict)
    quality: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    attempts: list[Mapping[str, Any]] = field(default_factory=list)
    """The tiers that were asked, as in a clip's document."""
    warnings: list[str] = field(default_factory=list)
    corrections: list[Mapping[str, Any]] = field(default_factory=list)
    files: Mapping[str, str | None] = field(default_factory=dict)
    """``video``, ``poster``, ``manifest``, ``sheet``, ``thumbnail``: relative to the report."""

    @property
    def made(self) -> bool:
        """Whether this batch made the video itself."""
        return self.video and not self.cached

    @property
    def name(self) -> str:
        """What people call it: its title, else its words, its picture or its row."""
        return self.title or self.prompt or ", ".join(self.pictures) or f"row {self.row}"

    @property
    def own_seed(self) -> int | None:
        """The seed, where it is what tells the clip from others of its row."""
        return self.seed if self.several else None

    @property
    def missed(self) -> list[Mapping[str, Any]]:
        """The tiers that were asked first and did not serve."""
        return [attempt for attempt in self.attempts if attempt.get("outcome") != "ok"]

    @property
    def looked_into(self) -> bool:
        """Whether its video was decoded for its pictures, as far as it could be."""
        unreadable = self.problem is not None and self.problem["code"] == UNREADABLE
        return unreadable or self.files.get("sheet") is not None

    def with_sheet(self, sheet: str, thumbnail: str) -> Entry:
        """The entry with the pictures that were made of its video."""
        return dataclasses.replace(
            self, files={**self.files, "sheet": sheet, "thumbnail": thumbnail}
        )

    def unreadable(self, message: str) -> Entry:
        """The entry of a video that could not be decoded just now."""
        return dataclasses.replace(self, problem=_problem(UNREADABLE, message))

    def line(self) -> str:
        """The entry as one line of JSON."""
        # Not asdict, which would copy what JSON can read as it is.
        return json.dumps({name: getattr(self, name) for name in _FIELDS}, ensure_ascii=False)

    @classmethod
    def parse(cls, line: str) -> Entry:
        """What ``line`` wrote."""
        return cls(**json.loads(line))


_FIELDS = tuple(one.name for one in dataclasses.fields(Entry))


def entry_of(job: Job, clip: StoredClip | None, folder: Path, *, several: bool = False) -> Entry:
    """``job`` and the clip its row names, if that is still there, told from ``folder``.

    ``several`` says that its row has other jobs.
    """
    known: dict[str, Any] = {
        "row": job.row,
        "index": job.index,
        "key": job.key,
        "state": job.state,
        "attempt": job.attempt,
        "worker": job.worker,
        "started_at": _moment(job.started_at),
        "finished_at": _moment(job.finished_at),
        "reason": None if job.reason is None else job.reason.to_json(),
        "title": job.fields.get("title"),
        "prompt": job.fields.get("prompt"),
        "pictures": _pictures(job.fields),
        "several": several,
        "seed": job.fields.get("seed"),
        "video": False,
        "problem": None,
    }
    if job.state == "failed":
        reason = job.reason
        known["problem"] = (
            _problem("failed", "it failed") if reason is None else dict(reason.to_json())
        )
    if job.state == "done" and job.path is not None:
        known |= _outcome(job, job.path, clip, folder)
    return Entry(**known)


def _outcome(job: Job, path: Path, clip: StoredClip | None, folder: Path) -> dict[str, Any]:
    kind = _kind(path, clip)
    length = _length(path)
    outcome: dict[str, Any] = {
        "clip_id": job.clip_id,
        "cached": job.cached,
        "shared": job.cached and clip is not None and clip.path == path,
        "kind": kind,
        "synthetic": path.name.startswith("synthetic_video_"),
        "bytes": length,
        "files": _files(path, clip, folder),
    }
    if clip is not None:
        outcome |= _described(clip)
    if kind == "placeholder":
        outcome["problem"] = _problem(PLACEHOLDER, "only a placeholder was made, no video")
    elif not length:
        outcome["problem"] = _problem(FILE_GONE, f"{path.name} is no longer there")
    else:
        outcome["video"] = True
        if not outcome["synthetic"]:  # whose frames show nothing, as is known
            outcome["problem"] = _judged(outcome.get("quality"))
    return outcome


def _judged(quality: Mapping[str, Any] | None) -> dict[str, str] | None:
    """What is wrong with a clip that was made but did not pass its checks."""
    if quality is None or quality.get("passed", True):
        return None
    failed = [
        name.replace("_", " ")
        for name, check in quality.get("checks", {}).items()
        if not check.get("passed", True) and check.get("grade") == "failure"
    ]
    return _problem(QUALITY, f"did not pass: {', '.join(failed) or 'its checks'}")


def _described(clip: StoredClip) -> dict[str, Any]:
    document = clip.document
    return {
        "tier": clip.tier,
        "checkpoint": clip.checkpoint,
        "speed": clip.speed,
        "synthetic": clip.synthetic,
        "duration_s": clip.duration_s,
        "elapsed_s": round(clip.elapsed_s, 3),
        "worked_s": round(clip.worked_s, 3),
        "fingerprint": clip.fingerprint,
        "warnings": list(document.get("warnings") or ()),
        "corrections": list(document.get("corrections") or ()),
        "attempts": list(document.get("attempts") or ()),
        **{name: document[name] for name in _MADE if document.get(name) is not None},
    }


def _kind(path: Path, clip: StoredClip | None) -> str | None:
    """The clip's, else what the file's name says."""
    if clip is not None:
        return clip.kind
    prefix = (parse_stem(path.stem) or ("",))[0]
    if path.suffix.lower() != ".mp4" or prefix == "enhanced_placeholder":
        return "placeholder"
    kinds = {"image_sequence_video": "animated-stills"}
    return kinds.get(prefix, "generated" if prefix else None)


def _files(path: Path, clip: StoredClip | None, folder: Path) -> dict[str, str | None]:
    """The job's own files; of a clip found elsewhere, the poster there where none was copied."""
    beside = {"poster": path.with_suffix(".jpg"), "manifest": path.with_suffix(".json")}
    found: dict[str, str | None] = dict.fromkeys(
        ("video", "poster", "manifest", "sheet", "thumbnail")
    )
    found["video"] = relative(path, folder)
    for name, own in beside.items():
        other = None if clip is None else getattr(clip.files, name)
        there = [file for file in (own, other) if file is not None and file.is_file()]
        found[name] = relative(there[0], folder) if there else None
    return found


def relative(path: Path, folder: Path) -> str:
    """``path`` as seen from ``folder``, POSIX separators; absolute where it is on another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return path.as_posix()


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _pictures(fields: Mapping[str, Any]) -> list[str]:
    paths = [fields.get("image"), *(fields.get("images") or ())]
    return [Path(path).name for path in paths if isinstance(path, str)]


def _problem(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message, "hint": _HINTS.get(code, "")}


def _moment(moment: Any) -> str | None:
    return None if moment is None else str(moment.isoformat(timespec="milliseconds"))
