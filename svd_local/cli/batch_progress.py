"""A running batch as people like to watch it: on standard error, bars on a terminal, else a line a clip."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from svd_local.batch.asked import differences
from svd_local.batch.counting import counted
from svd_local.batch.events import (
    Begun,
    Event,
    EventCallback,
    JobBegun,
    JobDone,
    JobFailed,
    JobLost,
    JobPostponed,
    JobProgress,
    JobReleased,
    JobStalled,
    Paused,
    Resumed,
    Stopping,
    Waiting,
    WorkerLost,
    WorkerSetAside,
)
from svd_local.batch.stalls import lasted
from svd_local.cli._shared import printable, say
from svd_local.cli.interrupts import heard
from svd_local.cli.progress import stage_text

if TYPE_CHECKING:
    from rich.progress import TaskID

    from svd_local.catalog.jobs import Enrolment, Job
    from svd_local.cli.batch_bars import BatchBars

_TEXT = 48
"""Characters of a clip's words, its seed among them, that are shown at most."""
_FEWEST = 8
"""Of its words alone, at least."""


@contextmanager
def batch_display() -> Iterator[EventCallback]:
    """A callback for a batch's events that tells them."""
    if not sys.stderr.isatty():
        yield _Told(say).hear
        return
    from rich.console import Console

    from svd_local.cli.batch_bars import BatchBars

    console = Console(stderr=True)

    def above(line: str) -> None:
        console.print(line, markup=False, highlight=False)

    with BatchBars(console) as bars:
        yield _Drawn(bars, above).hear


class _Told:
    """One line for everything that is worth one.

    Args:
        line: prints it.
    """

    def __init__(self, line: Callable[[str], None]) -> None:
        self._line = line
        self._began = time.monotonic()
        self.total = self.over = self.failed = self.made = 0
        self._stopping = False
        self.several: frozenset[int] = frozenset()
        """Rows of more than one clip: what is told of those has their seeds."""

    def hear(self, event: Event) -> None:
        line = self._counted(event)
        if line is not None:
            self._line(printable(line))

    @property
    def seconds_each(self) -> float | None:
        """Seconds a clip of this run took, those that were found ready not counted."""
        return (time.monotonic() - self._began) / self.made if self.made else None

    def _counted(self, event: Event) -> str | None:
        if isinstance(event, Begun):
            return self._beginning(event)
        if isinstance(event, JobDone):
            self.over += 1
            self.made += not (event.adopted or event.clip.cached)
            how = "adopted" if event.adopted else "was there already" if event.clip.cached else ""
            how = how or f"{event.clip.worked_s:.1f} s"
            return f"{self._place()} {self._of(event.job)}: {event.clip.path.name} ({how})"
        if isinstance(event, JobFailed):
            self.over += 1
            self.failed += 1
            reason = event.reason
            why = f"{reason.message}. {reason.hint}" if reason.hint else reason.message
            return f"{self._place()} {self._of(event.job)} failed: {why}"
        self._stopping = self._stopping or isinstance(event, Stopping)
        if isinstance(event, Resumed) and self._stopping:
            return None  # it goes nowhere: whatever it was paused for is waited for no more
        return _passing(event, self.several)

    def _beginning(self, event: Begun) -> str:
        batch, counts = event.enrolment.batch, event.enrolment.batch.counts
        done, failed = counts.get("done", 0), counts.get("failed", 0)
        self.total = batch.total - counts.get("cancelled", 0)
        self.over = done + failed
        self.several = event.enrolment.several
        of_them = "" if self.total == 1 else f"{done:,} of them "
        before = f", {of_them}done before" if done else ""
        before += f", {'' if self.total == 1 else f'{failed:,} '}given up before" if failed else ""
        told = f"batch {batch.name}: {counted(self.total, 'clip')}{before}"
        told += _changes(event.enrolment)
        differ = differences(batch, event.enrolment.options)
        if differ:
            told += f"; options differ from those the batch began with: {', '.join(differ)}"
        return told

    def _of(self, job: Job) -> str:
        return _of(job, self.several)

    def _place(self) -> str:
        return f"[{self.over}/{self.total}]" if self.total else "before:"

    def _left(self, each: float) -> str:
        """Time that the rest would take at ``each`` seconds a clip."""
        seconds = round(each * max(0, self.total - self.over))
        hours, minutes = divmod(seconds // 60, 60)
        return f"{hours}:{minutes:02d}:{seconds % 60:02d}"


class _Drawn(_Told):
    """Bars: one for the batch, one for each clip in the making; what stays is printed above them."""

    def __init__(self, bars: BatchBars, line: Callable[[str], None]) -> None:
        super().__init__(line)
        self._bars = bars
        self._whole = bars.add_task("clips", total=None)
        self._lanes: dict[int, TaskID] = {}
        self._at: dict[int, TaskID] = {}
        """Jobs in the making, and their bars."""

    def hear(self, event: Event) -> None:
        super().hear(event)
        if isinstance(event, JobBegun):
            if event.lane not in self._lanes:
                self._lanes[event.lane] = self._bars.add_task("", total=None)
            lane = self._lanes[event.lane]
            self._at[event.job.id] = lane
            self._bars.begin(lane, printable(self._named(event.job)))
        elif isinstance(event, JobProgress) and event.lane in self._lanes:
            now = event.progress
            text = printable(f"{self._named(event.job)}: {stage_text(now)}")
            self._bars.show(self._lanes[event.lane], text, now.done, now.total)
        else:
            self._ended(event)
            self._bars.show(self._whole, self._clips(), self.over, self.total)

    def _named(self, job: Job) -> str:
        return _of(job, self.several, min(self._bars.words, _TEXT))

    def _clips(self) -> str:
        """How it goes, and how long it takes: the rest is not made by a batch that stops."""
        each = self.seconds_each
        parts = ["clips"] if each is None else ["clips", f"{each:.1f} s each"]
        if self._stopping:
            parts.append("stopping")
        elif each is not None:
            parts.append(f"{self._left(each)} left")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)

    def _ended(self, event: Event) -> None:
        """A lane whose clip is over shows nothing until it has another."""
        if isinstance(event, (JobDone, JobFailed, JobPostponed, JobReleased, JobLost)):
            lane = self._at.pop(event.job.id, None)
            if lane is not None:
                self._bars.update(lane, visible=False)


def _changes(enrolment: Enrolment) -> str:
    """How the manifest differs from what the batch knew."""
    cancelled, added, leaving = enrolment.cancelled, enrolment.added, enrolment.leaving
    if not (cancelled or leaving or (added and enrolment.known)):
        return ""
    parts = []
    if cancelled:
        parts.append(f"{cancelled} that waited {'is' if cancelled == 1 else 'are'} cancelled")
    if leaving:
        parts.append(f"{leaving} in the making elsewhere will not be begun again")
    if added:
        parts.append(f"{added} {'is' if added == 1 else 'are'} new")
    return f"; the manifest or the options have changed: {', '.join(parts)}"


def _passing(event: Event, several: frozenset[int] = frozenset()) -> str | None:
    """What changes no count."""
    if isinstance(event, JobPostponed):
        when = event.job.not_before.astimezone().strftime("%H:%M:%S")
        return f"{_of(event.job, several)}: {event.reason.message}; tried again from {when}"
    if isinstance(event, JobReleased):
        return f"{_of(event.job, several)}: stopped, and waits for the next run"
    if isinstance(event, JobLost):
        return f"{_of(event.job, several)}: another worker has it, or it was cancelled"
    if isinstance(event, JobStalled):
        doing = f" ({event.doing})" if event.doing else ""
        return (
            f"{_of(event.job, several)}: no sign of life for {lasted(event.silent_s)}{doing}; a worker process is "
            "replaced, and without one only the end of this command helps (Ctrl-C twice)"
        )
    if isinstance(event, Waiting):
        when = event.until.astimezone().strftime("%H:%M:%S")
        return f"waiting until {when}: {event.queued} to do, {event.running} with other workers"
    if isinstance(event, Paused):
        return f"paused: {event.why}. {event.hint}"
    if isinstance(event, Resumed):
        return "going on"
    if isinstance(event, Stopping):
        return _stopping(event)
    if isinstance(event, WorkerLost):
        again = "" if event.restart_s is None else f"; another begins in {event.restart_s:.0f} s"
        return f"{_worker(event)} is lost: {event.why}{again}"
    if isinstance(event, WorkerSetAside):
        return f"{_worker(event)} is set aside: {event.why}"
    return None


def _stopping(event: Stopping) -> str:
    """What is done about it, and how to have it done at once, in whoever's way it was asked."""
    signal = heard()
    told = "" if signal is None else f"told to end ({signal}): "
    if event.cancelling:
        return f"{told}cancelling the clips at hand"
    again = "Ctrl-C again" if signal is None else f"the same again, or kill {os.getpid()},"
    return f"{told}finishing the clips at hand; {again} cancels them"


def _worker(event: WorkerLost | WorkerSetAside) -> str:
    return f"worker {event.worker}" + ("" if event.gpu is None else f" on {event.gpu}")


def _of(job: Job, several: frozenset[int], most: int = _TEXT) -> str:
    words = job.fields.get("title") or job.fields.get("prompt") or job.fields.get("image") or ""
    words = str(words)
    seed = f", seed {job.fields.get('seed')}" if job.row in several else ""
    most = max(most - len(seed), _FEWEST)
    words = words if len(words) <= most else words[: most - 1] + "…"
    return f"row {job.row} {words}".rstrip() + seed
