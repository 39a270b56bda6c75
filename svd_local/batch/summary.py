"""What a batch came to, and how well the time was used."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from svd_local.catalog.jobs import Batch, Job
from svd_local.result import Clip, Progress

_BUSY = "denoise"


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """One place for a worker process, usually a GPU, and how it fared."""

    worker: int
    gpu: str | None
    """Its name; None: the CPU."""
    uuid: str | None
    clips: int
    """Made, not found."""
    seconds: float
    """From its first worker's start to the end, waits between workers counted."""
    denoising: float | None
    """Share of them in which a clip was denoised, 0 to 1; null where none ever was."""
    gpu_use: float | None
    """Mean share of the time in which the GPU computed anything, 0 to 1; null where not measured."""
    starts: int
    """Worker processes that were started."""
    losses: tuple[str, ...]
    """Why each of them that did not end well ended."""
    set_aside: str | None
    """Why no further one was started; null where the place served to the end."""

    def to_json(self) -> dict[str, Any]:
        return {
            "worker": self.worker,
            "gpu": self.gpu,
            "uuid": self.uuid,
            "clips": self.clips,
            "seconds": round(self.seconds, 3),
            "denoising": _share(self.denoising),
            "gpu_use": _share(self.gpu_use),
            "starts": self.starts,
            "losses": list(self.losses),
            "set_aside": self.set_aside,
        }


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """One run of a batch. ``batch`` counts all its jobs; the other numbers are this run's own."""

    batch: Batch
    made: int
    """Clips that were made."""
    cached: int
    """Jobs whose clip the catalog had."""
    adopted: int
    """Jobs whose clip a dead worker had all but finished."""
    postponed: int
    """Tries that failed, with another one to come."""
    elapsed_s: float
    clips_per_hour: float | None
    """Of the made ones; null where there was none."""
    not_denoising: float | None
    """Share of the time in which no clip was denoised, 0 to 1, of all workers' time where there are
    several; null where none ever was."""
    failures: tuple[Job, ...]
    """The jobs of the batch that were given up, with their reasons."""
    stopped: bool
    """Whether it was asked to stop."""
    workers: tuple[WorkerFigures, ...] = ()
    """Of its worker processes; empty where it ran in this process."""

    @property
    def exit_status(self) -> int:
        """0 all is done; 1 jobs were given up, or no worker was left; 130 it was stopped before the end."""
        if self.stopped and not self.batch.finished:
            return 130
        return 1 if self.failures or not self.batch.finished else 0

    def by(self, workers: tuple[WorkerFigures, ...]) -> BatchSummary:
        """The same, with figures for each worker; times are then shares of all workers' time."""
        seconds = sum(worker.seconds for worker in workers)
        denoising = [w.denoising * w.seconds for w in workers if w.denoising is not None]
        not_denoising = 1 - min(sum(denoising) / seconds, 1.0) if denoising else None
        return dataclasses.replace(self, workers=workers, not_denoising=not_denoising)

    def to_json(self) -> dict[str, Any]:
        return {
            "success": self.exit_status == 0,
            "batch": self.batch.to_json(),
            **self.figures(),
            "failures": [job.to_json() for job in self.failures],
        }

    def figures(self) -> dict[str, Any]:
        """What this run itself came to."""
        return {
            "made": self.made,
            "cached": self.cached,
            "adopted": self.adopted,
            "postponed": self.postponed,
            "elapsed_s": round(self.elapsed_s, 3),
            "clips_per_hour": None
            if self.clips_per_hour is None
            else round(self.clips_per_hour, 2),
            "not_denoising": _share(self.not_denoising),
            "stopped": self.stopped,
            "workers": [worker.to_json() for worker in self.workers],
        }


class Tally:
    """Counts and times of a run, fed by all its lanes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = clock()
        self._spans: list[tuple[float, float]] = []
        self.made = self.cached = self.adopted = self.postponed = 0

    def count(self, what: str) -> None:
        """One more of ``made``, ``cached``, ``adopted`` or ``postponed``."""
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)

    def done(self, clip: Clip, *, adopted: bool = False) -> None:
        """One more job that has its clip."""
        self.count("adopted" if adopted else "cached" if clip.cached else "made")

    def watch(self) -> Watch:
        """For one clip: notes from its progress when it was denoised."""
        return Watch(self)

    def span(self, begin: float, end: float) -> None:
        with self._lock:
            self._spans.append((begin, end))

    def now(self) -> float:
        return self._clock()

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._begun

    @property
    def denoised_s(self) -> float | None:
        """Seconds in which at least one clip was denoised; None where none ever was."""
        with self._lock:
            return _union(self._spans) if self._spans else None

    def summary(self, batch: Batch, failures: tuple[Job, ...], *, stopped: bool) -> BatchSummary:
        elapsed_s = self._clock() - self._begun
        busy_s = _union(self._spans)
        return BatchSummary(
            batch=batch,
            made=self.made,
            cached=self.cached,
            adopted=self.adopted,
            postponed=self.postponed,
            elapsed_s=elapsed_s,
            clips_per_hour=3600 * self.made / elapsed_s if self.made and elapsed_s else None,
            not_denoising=1 - min(busy_s / elapsed_s, 1.0) if self._spans and elapsed_s else None,
            failures=failures,
            stopped=stopped,
        )


class Watch:
    """One clip's denoising, from its first report of it to the first of another stage."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._since: float | None = None

    def see(self, progress: Progress) -> None:
        if progress.stage == _BUSY:
            if self._since is None:
                self._since = self._tally.now()
        else:
            self.over()

    def over(self) -> None:
        """The clip has ended, one way or the other."""
        if self._since is not None:
            self._tally.span(self._since, self._tally.now())
            self._since = None


def _share(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _union(spans: list[tuple[float, float]]) -> float:
    """Seconds covered by at least one of ``spans``."""
    covered, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return covered
