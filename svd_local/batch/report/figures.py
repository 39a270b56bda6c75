"""What a batch's jobs add up to, counted one entry at a time."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from svd_local.batch.report.entry import Entry
from svd_local.catalog.figures import Measured, figures
from svd_local.catalog.jobs import STATES

PHASES = ("load_s", "keyframe_s", "encode_image_s", "denoise_s", "decode_s", "encode_video_s")
_ON_GPU = ("encode_image_s", "denoise_s", "decode_s")
_FAKE = "fake"
_WITHOUT_AN_END = "worker-lost"
"""Such a job was found later, at a moment that says nothing of its worker's time."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """Jobs that have one problem in common."""

    code: str
    jobs: int
    message: str
    """Of the first of them; ``alike`` says that it is the others' as well."""
    hint: str
    alike: bool = True
    lost: bool = False
    """Whether any of these jobs came to no video."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Figures:
    """A batch in numbers. Seconds throughout; None where nothing is known.

    A worker's time runs from its first job's beginning to its last one's end, pauses between jobs
    included; ``working_s`` is the time when there was one or more, so that the day between a night
    that was cut short and the next is not in it, and ``worker_s`` adds up all of theirs. Only each
    job's last try is known: tries before it, and workers that ended without a word, are left out.
    """

    counts: Mapping[str, int]
    """Jobs by state; every state is there."""
    skipped_rows: int
    """Rows of the manifest that were left out as bad: they are no jobs."""
    videos: int
    """Jobs that came to a video that is there."""
    made: int
    """Of these, made by this batch."""
    cached: int
    """And found in the catalog."""
    shared: int
    """Of those, without a file of their own."""
    by_kind: Mapping[str, int]
    synthetic: int
    made_up: int
    """Of these, by the fake tier, which has no weights at all."""
    problems: tuple[Reasons, ...]
    """What somebody should look at: first what cost videos, then the most frequent."""
    warned: int
    corrected: int
    fell_back: int
    """Videos for which a better tier was asked in vain."""
    retried: int
    """Jobs that took more than one try."""
    bytes: int
    duration_s: float
    began: str | None
    ended: str | None
    wall_s: float | None
    working_s: float | None
    worker_s: float | None
    workers: int
    clips_per_hour: float | None
    """Videos made in an hour of ``working_s``."""
    seconds_median: float | None
    """Of the clips' own seconds, where this batch made them."""
    seconds_p95: float | None
    groups: tuple[Mapping[str, Any], ...]
    """The same by tier, checkpoint and speed."""
    phases: Mapping[str, float]
    """Seconds per phase, added up over ``timed`` clips; phases of different clips may overlap."""
    timed: int
    denoising_share: float | None
    """Of ``worker_s``, from 0 to 1; None where no clip was denoised here."""
    gpu_share: float | None
    """What of ``worker_s`` the networks had the GPU for: image encoder, denoising, decoder."""

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def wanted(self) -> int:
        """Jobs that are to come to a video: all but the cancelled."""
        return self.total - self.counts["cancelled"]

    @property
    def open(self) -> int:
        """Jobs that are still to be done."""
        return self.counts["queued"] + self.counts["running"]

    @property
    def troubled(self) -> int:
        """Jobs somebody should look at."""
        return sum(reason.jobs for reason in self.problems)

    @property
    def not_denoising_share(self) -> float | None:
        return None if self.denoising_share is None else 1 - self.denoising_share

    def to_json(self) -> dict[str, Any]:
        return {
            "total": self.total,
            "wanted": self.wanted,
            "counts": dict(self.counts),
            "skipped_rows": self.skipped_rows,
            "videos": self.videos,
            "made": self.made,
            "cached": self.cached,
            "shared": self.shared,
            "by_kind": dict(self.by_kind),
            "synthetic": self.synthetic,
            "made_up": self.made_up,
            "problems": [reason.to_json() for reason in self.problems],
            "warned": self.warned,
            "corrected": self.corrected,
            "fell_back": self.fell_back,
            "retried": self.retried,
            "bytes": self.bytes,
            "duration_s": _round(self.duration_s),
            "began": self.began,
            "ended": self.ended,
            "wall_s": _round(self.wall_s),
            "working_s": _round(self.working_s),
            "worker_s": _round(self.worker_s),
            "workers": self.workers,
            "clips_per_hour": _round(self.clips_per_hour),
            "seconds_median": self.seconds_median,
            "seconds_p95": self.seconds_p95,
            "groups": [dict(group) for group in self.groups],
            "phases": {name: _round(seconds) for name, seconds in self.phases.items()},
            "timed": self.timed,
            "denoising_share": _round(self.denoising_share, 4),
            "not_denoising_share": _round(self.not_denoising_share, 4),
            "gpu_share": _round(self.gpu_share, 4),
        }


class Tally:
    """Counts entries; ``figures`` then says what they add up to."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._of: Counter[str] = Counter()
        self._problems: dict[str, Reasons] = {}
        self._phases: dict[str, float] = {}
        self._on_gpu = 0.0
        self._bytes = 0
        self._duration = 0.0
        self._made: list[Measured] = []
        self._spans: dict[str | None, tuple[datetime, datetime]] = {}

    def add(self, entry: Entry) -> None:
        """Count one more."""
        self._counts[entry.state] += 1
        self._of["retried"] += entry.attempt > 1
        if entry.problem is not None:
            self._add_problem(entry.problem, lost=not entry.video)
        self._add_span(entry)
        if entry.video:
            self._add_video(entry)

    def _add_problem(self, problem: Mapping[str, str], *, lost: bool) -> None:
        code, message = problem["code"], problem["message"]
        known = self._problems.get(code) or Reasons(code, 0, message, problem["hint"])
        self._problems[code] = dataclasses.replace(
            known,
            jobs=known.jobs + 1,
            alike=known.alike and message == known.message,
            lost=known.lost or lost,
        )

    def _add_span(self, entry: Entry) -> None:
        if entry.started_at is None or entry.finished_at is None:
            return
        if entry.state not in ("done", "failed") or (
            entry.reason is not None and entry.reason["code"] == _WITHOUT_AN_END
        ):
            return
        began = datetime.fromisoformat(entry.started_at)
        ended = datetime.fromisoformat(entry.finished_at)
        first, last = self._spans.get(entry.worker, (began, ended))
        self._spans[entry.worker] = min(first, began), max(last, ended)

    def _add_video(self, entry: Entry) -> None:
        self._kinds[entry.kind or "unknown"] += 1
        self._bytes += entry.bytes or 0
        self._duration += entry.duration_s or 0.0
        for name, is_so in (
            ("cached", entry.cached),
            ("shared", entry.shared),
            ("synthetic", entry.synthetic),
            ("made_up", entry.synthetic and entry.tier == _FAKE),
            ("warned", entry.warnings),
            ("corrected", entry.corrections),
            ("fell_back", entry.missed),
        ):
            self._of[name] += bool(is_so)
        if entry.cached:
            return
        self._of["made"] += 1
        if entry.elapsed_s is not None:
            group = (entry.tier, entry.checkpoint, entry.speed)
            self._made.append(
                Measured.of(
                    *(entry.kind or "unknown", group, entry.elapsed_s, entry.timings),
                    *(entry.duration_s, entry.bytes),
                )
            )
        known = {name: seconds for name in PHASES if (seconds := entry.timings.get(name))}
        self._of["timed"] += bool(known)
        for name, seconds in known.items():
            self._phases[name] = self._phases.get(name, 0.0) + seconds
        if (entry.device or "").startswith("cuda"):
            self._on_gpu += sum(known.get(name, 0.0) for name in _ON_GPU)

    def figures(self, skipped_rows: int = 0) -> Figures:
        """What was counted so far, of a batch that goes without ``skipped_rows`` rows."""
        spans = sorted(self._spans.values())
        began, ended = (spans[0][0], max(end for _, end in spans)) if spans else (None, None)
        working = _union_s(spans)
        worker_s = sum((end - start).total_seconds() for start, end in spans)
        denoising = self._phases.get("denoise_s", 0.0)
        of_clips = figures(self._made)
        return Figures(
            counts={state: self._counts[state] for state in STATES},
            skipped_rows=skipped_rows,
            videos=self._kinds.total(),
            made=self._of["made"],
            cached=self._of["cached"],
            shared=self._of["shared"],
            by_kind=dict(sorted(self._kinds.items())),
            synthetic=self._of["synthetic"],
            made_up=self._of["made_up"],
            problems=tuple(
                sorted(self._problems.values(), key=lambda r: (not r.lost, -r.jobs, r.code))
            ),
            warned=self._of["warned"],
            corrected=self._of["corrected"],
            fell_back=self._of["fell_back"],
            retried=self._of["retried"],
            bytes=self._bytes,
            duration_s=self._duration,
            began=None if began is None else began.isoformat(timespec="milliseconds"),
            ended=None if ended is None else ended.isoformat(timespec="milliseconds"),
            wall_s=None if began is None or ended is None else (ended - began).total_seconds(),
            working_s=working if spans else None,
            worker_s=worker_s if spans else None,
            workers=len(spans),
            clips_per_hour=self._of["made"] * 3600 / working if working else None,
            seconds_median=of_clips["seconds_median"],
            seconds_p95=of_clips["seconds_p95"],
            groups=tuple(of_clips["groups"]),
            phases={name: self._phases[name] for name in PHASES if name in self._phases},
            timed=self._of["timed"],
            denoising_share=_share(denoising, worker_s),
            gpu_share=_share(self._on_gpu, worker_s),
        )


def _union_s(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """Seconds covered by ``spans``, which are sorted, each once."""
    covered, reached = 0.0, None
    for start, end in spans:
        begin = start if reached is None else max(start, reached)
        covered += max(0.0, (end - begin).total_seconds())
        reached = end if reached is None else max(end, reached)
    return covered


def _share(part: float, whole: float) -> float | None:
    """Their ratio; clocks that disagree by a little make no share above 1."""
    return min(1.0, part / whole) if part and whole else None


def _round(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
