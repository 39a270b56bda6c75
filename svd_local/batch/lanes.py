"""The lanes: threads over one generator that claim jobs, make their clips, and see them published."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from svd_local.batch.adoption import owner_of
from svd_local.batch.company import Company, is_suspect
from svd_local.batch.events import (
    Event,
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
    Waiting,
)
from svd_local.batch.ground import Ground
from svd_local.batch.heart import Heart, Pulse
from svd_local.batch.plan import place_of, request_of
from svd_local.batch.space import Space
from svd_local.batch.stalls import Signs, patience_s
from svd_local.batch.summary import Tally
from svd_local.batch.verdict import judge
from svd_local.catalog.jobs import Job, Lease
from svd_local.errors import (
    Cancelled,
    CommitUnknown,
    DeviceLost,
    DiskFull,
    LeaseLost,
    StorageFailed,
)
from svd_local.generator import Delivery
from svd_local.request import ClipRequest
from svd_local.result import Clip, Progress, ProgressCallback
from svd_local.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

_CATALOG_PATIENCE_S = 600.0
"""How long a catalog may be out of reach before the batch ends with its error."""
_SHORTEST_WAIT_S = 0.02


class Maker(Protocol):
    """What makes the lanes' clips: a ``VideoGenerator``, or one on another machine."""

    @property
    def settings(self) -> Settings: ...

    def generate(
        self,
        request: ClipRequest,
        *,
        progress: ProgressCallback,
        cancelled: Callable[[], bool],
        delivery: Delivery,
    ) -> Clip:
        """As ``VideoGenerator.generate``; ``DeviceLost`` ends all lanes of this maker."""
        ...


@dataclass
class Lanes:
    """What the lanes share, and the lanes themselves."""

    ground: Ground
    generator: Maker
    heart: Heart
    tally: Tally
    tell: Callable[[Event], None]
    buries: bool = True
    """Whether to look for dead workers; false where somebody else does who knows how they died."""
    others: bool = False
    """Whether there are workers on other machines, which may be able to do what this one is not."""
    failure: BaseException | None = field(default=None, init=False)
    """What ended a lane that should have gone on."""
    _changed: threading.Condition = field(default_factory=threading.Condition, init=False)
    _pauses: int = field(default=0, init=False)
    _told_to_wait: bool = field(default=False, init=False)
    _company: Company = field(init=False)
    _space: Space = field(init=False)

    def __post_init__(self) -> None:
        self._company = Company(self._leaving)
        settings = self.generator.settings
        self._space = Space((self.ground.options.folder, settings.media_dir), settings.disk_reserve)

    def start(self) -> list[threading.Thread]:
        """Start them; each ends when nothing is left to do, or when that is asked for."""
        threads = [
            # Daemons: one that hangs does not keep a process that is to end.
            threading.Thread(
                target=self._lane, args=(number,), name=f"batch-lane-{number}", daemon=True
            )
            for number in range(self.ground.options.lanes)
        ]
        for thread in threads:
            thread.start()
        return threads

    def abandon(self) -> None:
        """Leave what the lanes have at hand: what lives is given back, what hangs has had its try."""
        for lease in self.heart.let_go():
            with suppress(LeaseLost, StorageFailed):
                self.ground.jobs.release(lease)

    def bury(self) -> None:
        """Take the jobs of workers that died on this machine."""
        self.ground.bury()

    def adopt(self, folder: Path, lease: Lease | None = None) -> bool:
        """Adopt what dead workers left in ``folder``; whether the job of ``lease`` was among it."""
        ids = self.ground.adopt(folder, self.tally, self.tell, lease)
        return lease is not None and lease.job.id in ids

    def _lane(self, number: int) -> None:
        try:
            alone = False
            while not self.ground.control.stopping:
                if not self._room():
                    continue
                with self._company.alone() if alone else self._company.joined() as there:
                    if not there:
                        return
                    lease = self._persist(self._claim)
                    if lease is not None and self._leaving():
                        self._give_back(lease)  # it was asked while we waited for the catalog
                        return
                    alone = lease is not None and not self._suits(lease.job, alone)
                    if lease is not None and alone:
                        self._give_back(lease)  # while we are there: whoever is alone finds it
                    elif lease is not None:
                        self._work(lease, number)
                if lease is None and not self._wait():
                    return
        except DeviceLost as error:
            self.failure = self.failure or error
            self.ground.control.cancel()  # the other lanes' jobs are given back: no fault of theirs
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for the lanes
            self.failure = self.failure or error
            self.ground.control.ask()

    def _leaving(self) -> bool:
        return self.ground.control.stopping

    def _suits(self, job: Job, alone: bool) -> bool:
        """Whether ``job`` can be made in the company there is; one a worker died over is made alone."""
        return alone or not is_suspect(job) or self._company.stay_alone()

    def _give_back(self, lease: Lease) -> None:
        with suppress(LeaseLost):
            self._persist(lambda: self.ground.jobs.release(lease))

    def _claim(self) -> Lease | None:
        lease_s = self.ground.options.lease_s
        return self.ground.jobs.claim(
            self.ground.batch.id, self.ground.presence.name, lease_s=lease_s
        )

    def _work(self, lease: Lease, lane: int) -> None:
        """Make the clip of a claimed job, and see the job to its state whatever happens."""
        job = lease.job
        self.tell(JobBegun(job, lane))
        with self._changed:
            self._told_to_wait = False
        try:
            signs = Signs(patience_s(job, self.ground.options))
            stalled = functools.partial(self._stalled, job, lane)
            with self.heart.keeping(lease, signs, stalled) as pulse:
                self._try(lease, pulse, lane)
        except LeaseLost:
            self.tell(JobLost(job))
        finally:
            with self._changed:
                self._changed.notify_all()

    def _stalled(self, job: Job, lane: int, silent_s: float, doing: str) -> None:
        self.tell(JobStalled(job, lane, silent_s, doing))

    def _try(self, lease: Lease, pulse: Pulse, lane: int) -> None:
        job = lease.job
        try:
            if job.attempt > 1 and self.adopt(
                place_of(job.folder, self.ground.options.folder), lease
            ):
                return
            clip = self._make(lease, pulse, lane)
        except LeaseLost:
            raise
        except Exception as error:
            if isinstance(error, CommitUnknown) and self._was_committed(lease):
                return
            if pulse.lost and not isinstance(error, DeviceLost):
                raise LeaseLost(f"job {job.id} was lost") from error
            if isinstance(error, Cancelled) and self.ground.control.cancelling:
                waits = self._persist(lambda: self.ground.jobs.release(lease))
                self.tell(JobReleased(job) if waits else JobLost(job))
                return
            try:
                self._fail(lease, error)
            except LeaseLost:
                if not isinstance(error, DeviceLost):
                    raise
                self.tell(JobLost(job))  # and whoever has it: the GPU is gone
            if isinstance(error, DeviceLost):
                raise
            return
        self._space.fits()
        self.tally.done(clip)
        self.tell(JobDone(job, clip))

    def _was_committed(self, lease: Lease) -> bool:
        """Once the catalog answers again: whether the clip has its row after all, or can be given it."""
        job, folder = lease.job, place_of(lease.job.folder, self.ground.options.folder)
        if self._persist(lambda: self.adopt(folder, lease)):
            return True
        now = self._persist(lambda: self.ground.jobs.job(job.id))
        if now.state != "done" or now.attempt != job.attempt or now.clip_id is None:
            return False
        name = now.clip_id
        clip = self._persist(lambda: self.ground.catalog.get(name)).to_clip()
        self.tally.count("made")
        self.tell(JobDone(now, clip))
        return True

    def _make(self, lease: Lease, pulse: Pulse, lane: int) -> Clip:
        job, jobs, signs = lease.job, self.ground.jobs, pulse.signs
        watch = self.tally.watch()

        def progress(progress: Progress) -> None:
            if signs is not None:
                signs.alive(progress)
            watch.see(progress)
            self.tell(JobProgress(job, lane, progress))

        def cancelled() -> bool:
            if signs is not None:
                signs.alive()
            return pulse.lost or self.ground.control.cancelling

        def commit(session: Session, clip: Clip) -> None:
            jobs.complete(session, lease, clip_id=clip.id, path=clip.path, cached=False)

        try:
            clip = self.generator.generate(
                request_of(job, self.ground.options.folder),
                progress=progress,
                cancelled=cancelled,
                delivery=Delivery(job.name, owner_of(lease), commit, placeholders=False),
            )
        finally:
            watch.over()
        if clip.cached:
            self._persist(lambda: jobs.finish(lease, clip_id=clip.id, path=clip.path, cached=True))
        return clip

    def _fail(self, lease: Lease, error: Exception) -> None:
        if isinstance(error, DiskFull):
            self._space.full(error)
        verdict = judge(error, lease.job.attempt, self.ground.options, others=self.others)
        job = self._persist(
            lambda: self.ground.jobs.fail(
                lease,
                verdict.reason,
                tries=self.ground.options.tries,
                delay_s=verdict.delay_s,
                final=verdict.final,
                counts=verdict.counts,
            )
        )
        if job.state == "failed":
            self.tell(JobFailed(job, job.reason or verdict.reason))
        elif job.state == "cancelled":
            self.tell(JobLost(job))
        else:
            self.tally.count("postponed")
            self.tell(JobPostponed(job, verdict.reason))

    def _room(self) -> bool:
        """Whether there is room for another clip; said, and waited for a little, where there is not."""
        short = self._space.shortage()
        if short is None:
            return True
        self._pause(short)
        try:
            while short is not None and not self.ground.control.stopping:
                self._sleep(self.ground.options.poll_s)
                short = self._space.shortage()
        finally:
            self._resume()
        return False

    def _wait(self) -> bool:
        """Wait a little for work; false where none is left."""
        outlook = self._persist(lambda: self.ground.jobs.outlook(self.ground.batch.id))
        if outlook.over:
            return False
        wait_s = outlook.next_s or 0.0
        # Asked of the catalog, not counted here: a lane holds a job before it begins it, and after.
        mine = self.ground.presence.name in outlook.workers
        others = tuple(name for name in outlook.workers if name != self.ground.presence.name)
        with self._changed:
            news = not mine and wait_s > self.ground.options.poll_s and not self._told_to_wait
            self._told_to_wait = self._told_to_wait or news
        if self.buries and others:
            self._persist(self.bury)
        if news:
            until = datetime.now(UTC) + timedelta(seconds=wait_s)
            self.tell(Waiting(until, outlook.queued, outlook.running, others))
        self._sleep(max(_SHORTEST_WAIT_S, min(wait_s, self.ground.options.poll_s)))
        return True

    def _sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of a clip: what it frees may be what is waited for."""
        with self._changed:
            self._changed.wait(seconds)

    def _persist(self, call: Callable[[], T]) -> T:
        """``call``, again and again while the catalog cannot be used; a night outlasts a locked database.

        Raises:
            StorageFailed: it could not for ten minutes, other than for want of room on the disk, or the
                batch is being cancelled.
        """
        give_up = time.monotonic() + _CATALOG_PATIENCE_S
        paused = False
        try:
            while True:
                try:
                    return call()
                except StorageFailed as error:
                    # Room may be made in the morning; until then nothing is lost by waiting.
                    patient = isinstance(error, DiskFull) and not self.ground.control.stopping
                    if (
                        time.monotonic() > give_up and not patient
                    ) or self.ground.control.cancelling:
                        raise
                    if not paused:
                        self._pause(Paused(error.message, error.hint))
                        paused = True
                time.sleep(self.ground.options.poll_s)
        finally:
            if paused:
                self._resume()

    def _pause(self, why: Paused) -> None:
        """Say so, once for all lanes."""
        with self._changed:
            self._pauses += 1
            first = self._pauses == 1
        if first:
            self.tell(why)

    def _resume(self) -> None:
        with self._changed:
            self._pauses -= 1
            last = self._pauses == 0
        if last:
            self.tell(Resumed())
