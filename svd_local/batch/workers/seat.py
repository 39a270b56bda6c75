"""A place for one worker process after another, and what is known of those that sat there."""

from __future__ import annotations

import time
from typing import Generic, TypeVar

from svd_local.batch.events import JobBegun, JobDone, JobFailed, JobPostponed, JobProgress
from svd_local.batch.summary import Tally, Watch, WorkerFigures
from svd_local.batch.workers.places import Place
from svd_local.catalog.jobs import WORKER_LOST, Job
from svd_local.errors import DeviceLost

LOSSES_IN_A_ROW = 3
"""Workers that fail one after the other without having finished a clip, before their place is given up."""
_LONGEST_WAIT_S = 60.0


W = TypeVar("W")
"""What a worker is to whoever started it."""


class Seat(Generic[W]):
    """One worker's place. Its state is told by what is set:

    ``process`` a worker is at work; ``due`` one is to be started at that moment; ``over`` none is any
    more.
    """

    def __init__(self, number: int, place: Place, label: str | None) -> None:
        self.number = number
        self.place = place
        self.label = label
        self.tally = Tally()
        self.process: W | None = None
        self.due: float | None = 0.0
        self.told = 0
        """How much of the wish to stop its worker has heard: 0 nothing, 1 stop, 2 cancel."""
        self.name: str | None = None
        """What its worker takes jobs under."""
        self.heard_at = 0.0
        """When its worker last said anything but that it is alive."""
        self.beat_at = 0.0
        """When it last said anything at all."""
        self.has_beaten = False
        self.hung: str | None = None
        """Why its worker was ended from here."""
        self.cut_off = False
        """Whether it was ended because the batch was to stop, and it did not."""
        self.paused = False
        self.at_hand: dict[int, Job] = {}
        self.starts = 0
        self.losses: list[str] = []
        self.set_aside: str | None = None
        self._watches: dict[int, Watch] = {}
        self._broke: set[int] = set()
        self._suspects: list[frozenset[int]] = []

    @property
    def over(self) -> bool:
        return self.process is None and self.due is None

    def started(self, process: W) -> None:
        if not self.starts:
            self.tally = Tally()
        self.process, self.due, self.name = process, None, None
        self.told = 0
        self.heard_at = self.beat_at = time.monotonic()
        self.has_beaten = self.cut_off = False
        self.hung = None
        self.starts += 1

    def heard(self, *, news: bool) -> None:
        """Its worker said something; not ``news``: only that it is alive."""
        self.beat_at = time.monotonic()
        self.has_beaten = True
        if news:
            self.heard_at = self.beat_at

    def begun(self, event: JobBegun) -> None:
        self.at_hand[event.job.id] = event.job
        self._watches[event.job.id] = self.tally.watch()

    def progress(self, event: JobProgress) -> None:
        watch = self._watches.get(event.job.id)
        if watch is not None:
            watch.see(event.progress)

    def ended(self, job: Job) -> None:
        """``job`` is no longer at hand, one way or the other."""
        self.at_hand.pop(job.id, None)
        watch = self._watches.pop(job.id, None)
        if watch is not None:
            watch.over()

    def done(self, event: JobDone) -> None:
        self.ended(event.job)
        if not (event.adopted or event.clip.cached):
            self.tally.count("made")
            self._suspects.clear()

    def failed(self, event: JobPostponed | JobFailed) -> None:
        self.ended(event.job)
        if event.reason.code in (DeviceLost.code, WORKER_LOST):
            self._broke.add(event.job.id)

    def lost(self, why: str, restart_s: float, now: float) -> float | None:
        """Its worker failed: answers in how many seconds the next is due, None where none is.

        Whose fault it was shows in the jobs that were at hand each time: where one of them was every
        time, it is that job's, which will soon have had its tries. Else it is the place's.
        """
        self.losses.append(why)
        self._suspects.append(frozenset(self.at_hand) | frozenset(self._broke))
        count = len(self._suspects)
        latest = self._suspects[-LOSSES_IN_A_ROW:]
        if count >= LOSSES_IN_A_ROW and not frozenset.intersection(*latest):
            self.set_aside = (
                f"{count} workers failed there one after the other without finishing a clip, "
                f"the last one: {why}"
            )
            return None
        wait_s = min(restart_s * 2.0 ** (count - 1), max(_LONGEST_WAIT_S, restart_s))
        self.due = now + wait_s
        return wait_s

    def cleared(self) -> dict[int, Job]:
        """Its worker has ended: answers the jobs that were at hand, and forgets them."""
        jobs = dict(self.at_hand)
        for job in jobs.values():
            self.ended(job)
        self._broke.clear()
        self.process = None
        self.paused = False
        return jobs

    def figures(self, gpu_use: float | None) -> WorkerFigures:
        seconds = self.tally.elapsed_s if self.starts else 0.0
        busy = self.tally.denoised_s
        return WorkerFigures(
            worker=self.number,
            gpu=self.label,
            uuid=None if self.place is None else self.place.uuid,
            clips=self.tally.made,
            seconds=seconds,
            denoising=None if busy is None or not seconds else min(busy / seconds, 1.0),
            gpu_use=gpu_use,
            starts=self.starts,
            losses=tuple(self.losses),
            set_aside=self.set_aside,
        )
