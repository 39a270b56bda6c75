"""A clip as the catalog knows it, and how a result is written down and read back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from svd_local.result import Attempt, Clip, Correction, Files, Kind, Memory, Quality, Timings

_PLACES = ("path", "files", "id", "success", "cached")
"""What a stored result leaves out: its place may move, the rest is the reader's to say."""
_SIMPLE = (
    *("checkpoint", "engine", "device", "speed", "frames", "fps", "width", "height"),
    *("duration_s", "seed", "fingerprint"),
)
"""What is read back as it was written down, null where it was left out."""


@dataclass(frozen=True, slots=True)
class StoredClip:
    """One row. ``files`` are absolute; ``document`` is ``Clip.to_json`` without places and name."""

    id: str
    created_at: datetime
    kind: Kind
    tier: str
    checkpoint: str | None
    speed: str | None
    synthetic: bool
    duration_s: float | None
    elapsed_s: float
    """Seconds from the call to the clip, waiting for other clips included."""
    fingerprint: str | None
    files: Files
    bytes: int
    """Length of the video when it was published."""
    sha256: str
    """Digest of the video when it was published, in hex."""
    text: str | None
    """What the clip is about: its title, else its prompt."""
    request: Mapping[str, Any]
    document: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The video, absolute."""
        assert self.files.video is not None, "every row is a video's"
        return self.files.video

    @property
    def worked_s(self) -> float:
        """The clip's own seconds, as ``Clip.worked_s`` was."""
        return Timings(**self.document["timings"]).worked_s(self.elapsed_s)

    @property
    def present(self) -> bool:
        """Whether the video is there with the length it was published with."""
        try:
            return self.path.is_file() and self.path.stat().st_size == self.bytes
        except OSError:
            return False

    def to_clip(self) -> Clip:
        """The clip as the result of a request it was found for: cached, no attempts, no time spent.

        Timings are those of this request, hence empty; memory, quality and parameters still say how
        the file was made.
        """
        return dataclasses.replace(
            restored(self.document, self.files),
            id=self.id,
            cached=True,
            attempts=(),
            timings=Timings(),
            elapsed_s=0.0,
        )

    def summary(self) -> dict[str, Any]:
        """The row in a list, as JSON."""
        return {
            "id": self.id,
            "created_at": self.created_at.isoformat(timespec="milliseconds"),
            "kind": self.kind,
            "synthetic": self.synthetic,
            "tier": self.tier,
            "checkpoint": self.checkpoint,
            "speed": self.speed,
            "duration_s": self.duration_s,
            "elapsed_s": self.elapsed_s,
            "worked_s": round(self.worked_s, 3),
            "text": self.text,
            "path": str(self.path),
            "bytes": self.bytes,
            "present": self.present,
        }

    def to_json(self) -> dict[str, Any]:
        """All that is known: the summary, what was asked for, and the result as it was."""
        return {
            **self.summary(),
            "sha256": self.sha256,
            "fingerprint": self.fingerprint,
            "files": self.files.to_json(),
            "request": dict(self.request),
            "result": dict(self.document),
        }


def document_of(clip: Clip) -> dict[str, Any]:
    """What of ``clip`` is stored as its document."""
    return {key: value for key, value in clip.to_json().items() if key not in _PLACES}


def restored(document: Mapping[str, Any], files: Files) -> Clip:
    """The clip that ``Clip.to_json`` or ``document_of`` wrote down, its files where they are now.

    Raises:
        ValueError: ``files`` has no video.
    """
    if files.video is None:
        raise ValueError("a clip has a video")
    memory, quality = document.get("memory"), document.get("quality")
    simple: dict[str, Any] = {name: document.get(name) for name in _SIMPLE}
    return Clip(
        kind=document["kind"],
        path=files.video,
        tier=document["tier"],
        attempts=tuple(Attempt(**attempt) for attempt in document["attempts"]),
        parameters=document["parameters"],
        files=files,
        synthetic=document["synthetic"],
        elapsed_s=document["elapsed_s"],
        corrections=tuple(_correction(c) for c in document["corrections"]),
        warnings=tuple(document["warnings"]),
        memory=None if memory is None else Memory(**memory),
        timings=Timings(**document["timings"]),
        quality=None if quality is None else Quality(**quality),
        **simple,
    )


def _correction(document: Mapping[str, Any]) -> Correction:
    values = {("from_" if key == "from" else key): value for key, value in document.items()}
    return Correction(**values)


def placed(files: Files, root: Path) -> Files:
    """``files`` with absolute paths, where they were written down relative to ``root``."""
    return Files(
        **{
            field.name: None if path is None else root / path
            for field in dataclasses.fields(files)
            for path in (getattr(files, field.name),)
        }
    )


def relative_to_root(path: Path, root: Path) -> str:
    """How ``path`` is written down: relative to ``root`` where inside it, so that the root can move."""
    for inner, outer in ((path.absolute(), root), (path.resolve(), root.resolve())):
        if inner.is_relative_to(outer):
            return inner.relative_to(outer).as_posix()
    return str(path.absolute())
