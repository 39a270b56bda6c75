"""The supervisor: starts workers, hears what they say, buries the dead, and replaces them."""

from __future__ import annotations

import os
import queue
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from svd_local.batch.events import (
    Event,
    EventCallback,
    JobDone,
    JobPostponed,
    JobStalled,
    Stopping,
    WorkerLost,
    WorkerSetAside,
    WorkerStarted,
)
from svd_local.batch.ground import Ground
from svd_local.batch.stalls import told_of
from svd_local.batch.summary import BatchSummary, Tally
from svd_local.batch.workers.burial import Burial, Dead
from svd_local.batch.workers.gpu_use import GpuUse
from svd_local.batch.workers.places import Place
from svd_local.batch.workers.process import WorkerProcess, cause_of, not_started
from svd_local.batch.workers.protocol import (
    CANCEL,
    STOP,
    Alive,
    Failed,
    Hello,
    Message,
    Order,
    settings_document,
)
from svd_local.batch.workers.seat import Seat
from svd_local.batch.workers.silence import Attention, why_hung
from svd_local.batch.workers.voices import Voices
from svd_local.catalog.jobs import Batch, Job
from svd_local.errors import InvalidRequest, StorageFailed

_LOOK_UP_S = 0.2
_LOOK_FOR_DEAD_S = 5.0
_INVALID = 2
_CANCELLING = 2
_CANCEL_PATIENCE_S = 30.0
"""What workers may take to cancel their clips before they are killed."""
_CLOSE_PATIENCE_S = 15.0
_CATALOG_PATIENCE_S = 600.0


class Supervisor:
    """A batch's workers, from the first one's start to the last one's end; a context manager.

    All of it runs in the calling thread; only the workers' pipes are read in threads of their own.
    """

    def __init__(
        self,
        ground: Ground,
        events: EventCallback,
        *,
        places: Sequence[Place],
        command: Sequence[str],
        restart_s: float,
    ) -> None:
        self._ground = ground
        self._events = events
        self._command = command
        self._restart_s = restart_s
        self._seats = [
            Seat[WorkerProcess](number, place, label)
            for number, (place, label) in enumerate(zip(places, _labels(places), strict=True))
        ]
        self._heard: queue.SimpleQueue[tuple[Seat[WorkerProcess], Message | None]] = (
            queue.SimpleQueue()
        )
        self._names: set[str] = set()
        self._tally = Tally()
        self._voices = Voices(self._seats, ground.options.lanes, self.tell)
        self._burial = Burial(ground, self._tally, self.tell, self.adopt)
        self._failure: BaseException | None = None
        self._told_to_stop = 0
        self._kill_at: float | None = None
        self._attention = Attention()
        self._look_for_dead_at = 0.0
        self._catalog_gone_since: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for seat in self._seats:
            if seat.process is not None:
                seat.process.close(_CLOSE_PATIENCE_S)

    def run(self) -> None:
        """Until every job is over, no worker is left, or the batch was stopped and its workers ended.

        Raises:
            InvalidRequest: the workers find that the settings mean nothing.
            StorageFailed: the catalog was out of reach for ten minutes.
            Exception: what the events' callback raised.
        """
        while not all(seat.over for seat in self._seats):
            try:
                self._hear()
                self._pass_on_the_wish_to_stop()
                now = self._attention.paid(*self._seats)
                for seat in self._seats:
                    self._look_after(seat, now)
                self._burial.bury()
                if time.monotonic() >= self._look_for_dead_at:
                    self.bury_strangers()
                self._catalog_gone_since = None
            except KeyboardInterrupt:
                self._ground.control.ask()
            except StorageFailed as error:
                self._bear(error)
        self._burial.bury()
        if self._failure is not None:
            raise self._failure

    def summary(self, batch: Batch, failures: tuple[Job, ...], gpu_use: GpuUse) -> BatchSummary:
        """What the run came to, with figures for each worker."""
        uuids = [None if seat.place is None else seat.place.uuid for seat in self._seats]
        workers = tuple(
            seat.figures(gpu_use.mean(uuid)) for seat, uuid in zip(self._seats, uuids, strict=True)
        )
        mine = self._tally.summary(batch, failures, stopped=self._ground.control.stopping)
        return mine.by(workers)

    def tell(self, event: Event) -> None:
        """Tell whoever waits for the batch; once that has failed the batch is cancelled, in silence."""
        if self._failure is not None:
            return
        try:
            self._events(event)
        except KeyboardInterrupt:
            self._ground.control.ask()
        except BaseException as error:  # noqa: BLE001 - raised again once the workers have ended
            self._fail(error)

    def adopt(self, folder: Path) -> set[int]:
        """Adopt what dead workers left in ``folder``; answers the ids of the jobs that are done by it."""
        return self._ground.adopt(folder, self._tally, self.tell)

    def bury_strangers(self) -> None:
        """Take the jobs of workers of other supervisors, here or before, that died on this machine."""
        self._look_for_dead_at = time.monotonic() + _LOOK_FOR_DEAD_S
        self._ground.bury(but=self._names)

    # What the workers say

    def _hear(self) -> None:
        """Heed what was said since the last time, or the next that is within a moment."""
        try:
            heard = self._heard.get(timeout=_LOOK_UP_S)
            while True:
                self._heed(*heard)
                heard = self._heard.get_nowait()
        except queue.Empty:
            return

    def _heed(self, seat: Seat[WorkerProcess], message: Message | None) -> None:
        seat.heard(news=not isinstance(message, Alive))
        if isinstance(message, Hello):
            seat.name = message.name
            self._names.add(message.name)
        elif isinstance(message, (Alive, Failed)) or message is None:
            pass  # its process keeps what failed, and its end shows the last
        else:
            if isinstance(message, JobDone):
                self._tally.done(message.clip, adopted=message.adopted)
            elif isinstance(message, JobPostponed):
                self._tally.count("postponed")
            self._voices.heed(seat, message)
            if isinstance(message, JobStalled):
                self._end(seat, told_of(message))

    # Starting and ending them

    def _look_after(self, seat: Seat[WorkerProcess], now: float) -> None:
        """Start the worker that is due; see to one that has ended, or is to be."""
        if seat.process is not None:
            status = seat.process.ended()
            if status is not None and self._heard.empty():
                self._see_off(seat, seat.process, status, now)
            elif self._kill_at is not None and now > self._kill_at:
                self._cut_off(seat, seat.process)
            elif (why := why_hung(seat, self._ground.options, now)) is not None:
                self._end(seat, why)
        elif seat.due is not None and self._ground.control.stopping:
            seat.due = None
        elif seat.due is not None and now >= seat.due:
            self._start(seat, now)

    def _end(self, seat: Seat[WorkerProcess], why: str) -> None:
        """End a worker that hangs; it is then seen off, and replaced, as any that dies."""
        if seat.process is not None and seat.hung is None:
            seat.hung = f"ended because {why}"
            seat.process.kill()

    def _cut_off(self, seat: Seat[WorkerProcess], process: WorkerProcess) -> None:
        """End a worker that does not cancel its clips: they have not had their try."""
        if seat.hung is None:
            seat.hung = "it did not answer, and was ended"
            seat.cut_off = True
        process.kill()

    def _start(self, seat: Seat[WorkerProcess], now: float) -> None:
        order = Order(
            settings_document(self._ground.settings),
            self._ground.batch.id,
            self._ground.options,
            gpu=seat.place is not None,
        )
        on_cpu = seat.place is None and len(self._seats) > 1
        log = self._log_of(seat)
        try:
            process = WorkerProcess(
                self._command,
                order,
                place=seat.place,
                threads=max(1, (os.cpu_count() or 1) // len(self._seats)) if on_cpu else None,
                log=log,
                hear=lambda message: self._heard.put((seat, message)),
            )
        except (StorageFailed, OSError) as error:
            seat.due = None
            self._replace(seat, not_started(error), now)
            return
        seat.started(process)
        self.tell(WorkerStarted(seat.number, seat.label, process.pid, log))

    def _see_off(
        self, seat: Seat[WorkerProcess], process: WorkerProcess, status: int, now: float
    ) -> None:
        """A worker has ended: well, or not."""
        over = (
            self._ground.jobs.outlook(self._ground.batch.id).over or self._ground.control.stopping
        )
        why = seat.hung or cause_of(status, process.failed, process.lingered)
        process.close(0.0)
        self._voices.resumed(seat)
        if status == 0 and over:
            seat.cleared()
            return
        if status == _INVALID and process.failed is not None:
            said = process.failed
            self._fail(InvalidRequest(said.message, hint=said.hint, field=said.field))
        if seat.cut_off:
            seat.losses.append(why)
            self.tell(WorkerLost(seat.number, seat.label, why, None))
        else:
            self._replace(seat, why, now, over)
        jobs = seat.cleared()
        if seat.name is not None:
            log = self._log_of(seat)
            self._burial.add(Dead(seat.name, jobs, why, log, tried=not seat.cut_off))

    def _replace(self, seat: Seat[WorkerProcess], why: str, now: float, over: bool = False) -> None:
        """A worker failed, or could not be started: have another, or set its place aside."""
        wait_s = seat.lost(why, self._restart_s, now)
        if over:
            seat.due = wait_s = None
        self.tell(WorkerLost(seat.number, seat.label, why, wait_s))
        if seat.set_aside is not None:
            self.tell(WorkerSetAside(seat.number, seat.label, seat.set_aside))

    def _log_of(self, seat: Seat[WorkerProcess]) -> Path:
        folder = self._ground.settings.media_dir.absolute() / "logs"
        return folder / f"{self._ground.batch.id}-worker-{seat.number}.log"

    # Stopping, and what goes wrong

    def _pass_on_the_wish_to_stop(self) -> None:
        wish = (
            _CANCELLING if self._ground.control.cancelling else int(self._ground.control.stopping)
        )
        if wish > self._told_to_stop:
            self._told_to_stop = wish
            self.tell(Stopping(cancelling=wish == _CANCELLING))
            if wish == _CANCELLING:
                self._kill_at = time.monotonic() + _CANCEL_PATIENCE_S
        for seat in self._seats:
            if seat.process is not None and seat.told < wish:
                seat.process.say(CANCEL if wish == _CANCELLING else STOP)
                seat.told = wish

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._ground.control.cancel()

    def _bear(self, error: StorageFailed) -> None:
        """The catalog cannot be used: workers say so and wait; so do we, but not for ever."""
        now = time.monotonic()
        if self._catalog_gone_since is None:
            self._catalog_gone_since = now
        if now - self._catalog_gone_since > _CATALOG_PATIENCE_S or self._ground.control.cancelling:
            raise error


def _labels(places: Sequence[Place]) -> list[str | None]:
    """The GPUs' names, numbered where there are several of one name."""
    names = Counter(place.name for place in places if place is not None)
    return [
        None
        if place is None
        else place.name
        if names[place.name] == 1
        else f"{place.name} ({number})"
        for number, place in enumerate(places)
    ]
