"""The seats of a batch on a cluster: in each, one actor after the other, and the lanes it works for."""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from svd_local.batch.control import Wing
from svd_local.batch.events import (
    Event,
    JobStalled,
    Paused,
    Resumed,
    WorkerLost,
    WorkerSetAside,
    WorkerStarted,
)
from svd_local.batch.ground import Ground
from svd_local.batch.heart import Heart
from svd_local.batch.lanes import Lanes
from svd_local.batch.ray.far import ActorLost, FarGenerator, Hand
from svd_local.batch.ray.values import Hello, House
from svd_local.batch.stalls import lasted, told_of
from svd_local.batch.summary import BatchSummary, Tally
from svd_local.batch.workers.seat import Seat
from svd_local.batch.workers.voices import Voices
from svd_local.catalog.jobs import Batch, Job
from svd_local.errors import DeviceLost, StorageFailed

if TYPE_CHECKING:
    from svd_local.batch.ray.cluster import Cluster

_LOOK_UP_S = 0.2
_LOOK_AROUND_S = 5.0
_PING_S = 1.0
_SAY_S = 10.0
"""How long nobody may be hired before that is said."""
_START_S = 1800.0
"""What an actor may take to be up, from when its process runs: the libraries from a network disk that
many nodes read at once, and its GPU's first answer. Twice what a worker process here has."""
_NOBODY = Paused(
    "no node of the cluster has room for a worker",
    "ray status says what it has and what is taken; nodes that join are used.",
)


class Staff:
    """Who makes the clips of a batch: a seat for each place in the cluster. For one thread's ``work``.

    Each seat has a thread, which hires an actor, runs lanes over it until the batch is over, and hires
    another where it is lost. Seats are added as nodes join.
    """

    def __init__(
        self,
        ground: Ground,
        heart: Heart,
        tell: Callable[[Event], None],
        *,
        cluster: Cluster,
        workers: int | None,
        sorts: tuple[Mapping[str, Any], ...],
        restart_s: float,
    ) -> None:
        self._ground = ground
        self._heart = heart
        self._pass_on = tell
        self._cluster = cluster
        self._workers = workers
        self._sorts = sorts
        self._restart_s = restart_s
        self._lock = threading.RLock()
        self._seats: list[Seat[Hand]] = []
        self._threads: list[threading.Thread] = []
        self._kept: list[Hand] = []
        """Of no use, but in the way: nobody else shall be placed where they are."""
        self._voices = Voices(self._seats, ground.options.lanes, tell)
        self._coming: set[int] = set()
        """Numbers of the seats whose actors have their place, and are not up yet."""
        self._nobody_since: float | None = None
        self._told_of_nobody = False
        self.tally = Tally()
        self.failure: BaseException | None = None
        """What ended a seat that should have gone on."""

    def work(self) -> None:
        """Until every job is over, no seat is left, or the batch was stopped and its lanes ended."""
        look_at = 0.0
        try:
            while True:
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + _LOOK_AROUND_S
                    self._seat_more()
                    self._bury_strangers()
                self._say_whether_nobody_is_there()
                working = any(thread.is_alive() for thread in self._threads)
                if not working and (self._seats or self._ground.control.stopping or self._over()):
                    break
                time.sleep(_LOOK_UP_S)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
            self._fail(error)
            for thread in self._threads:
                thread.join()
        for hand in self._kept:
            hand.kill()

    def summary(self, batch: Batch, failures: tuple[Job, ...]) -> BatchSummary:
        """What the run came to, with figures for each seat. The nodes' own use of their GPUs is not
        measured.
        """
        mine = self.tally.summary(batch, failures, stopped=self._ground.control.stopping)
        return mine.by(tuple(seat.figures(None) for seat in self._seats))

    # Seats

    def _seat_more(self) -> None:
        wanted = 0 if self._ground.control.stopping else self._cluster.places(self._workers).count
        while len(self._seats) < wanted:
            seat = Seat[Hand](len(self._seats), None, None)
            thread = threading.Thread(target=self._sit, args=(seat,), name=f"seat-{seat.number}")
            with self._lock:
                self._seats.append(seat)
            self._threads.append(thread)
            thread.start()

    def _sit(self, seat: Seat[Hand]) -> None:
        """One seat's life."""
        try:
            while seat.due is not None and self._slept_until(seat.due):
                self._hire_and_work(seat)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for it
            self._fail(error)
        finally:
            with self._lock:
                seat.cleared()
                seat.due = None

    def _hire_and_work(self, seat: Seat[Hand]) -> None:
        """One actor's time in a seat. Sets when the next one is due."""
        places = self._cluster.places(self._workers)
        house = House.of(self._ground.settings, _version(), self._sorts, gpu=places.gpu)
        hand = self._cluster.hire(house, places, self._ground.options.lanes)
        try:
            hello = self._hello(seat, hand)
            if hello is None:
                seat.due = None
                hand.kill()
            elif hello.unfit is not None:
                self._kept.append(hand)
                self._set_aside(seat, hello, hello.unfit)
            else:
                self._started(seat, hand, hello)
                failure = self._work(seat, hand)
                if failure is not None:
                    raise failure
                seat.due = None
                hand.close()
        except DeviceLost as error:
            hand.kill()
            self._lost(seat, error)
        except BaseException:
            hand.kill()
            raise

    def _hello(self, seat: Seat[Hand], hand: Hand) -> Hello | None:
        """Wait until the actor is up; None where it is not needed any more.

        However long for room on a node; for what happens there not for ever.
        """
        promise = hand.hello()
        try:
            if not self._awaited(seat, hand, promise):
                return None
        finally:
            self._coming.discard(seat.number)
        try:
            hello = hand.result(promise)
        except RuntimeError as error:  # what is installed there is broken, and others' is not
            raise ActorLost(f"it cannot begin: {error}") from error
        assert isinstance(hello, Hello)
        return hello

    def _awaited(self, seat: Seat[Hand], hand: Hand, promise: Any) -> bool:
        """Wait for the first answer; false where it is not needed any more."""
        every_s = max(self._ground.options.poll_s, _LOOK_UP_S)
        look_at = time.monotonic() + every_s
        starting_s = 0.0
        while not hand.ready([promise], _LOOK_UP_S):
            if self._ground.control.stopping:
                return False
            if time.monotonic() < look_at:
                continue
            look_at = time.monotonic() + every_s
            if self._over():
                return False
            place = hand.place()
            if place is None:
                continue
            # Added up by looks: what passes while this process is stopped is no time of its.
            starting_s += every_s
            self._coming.add(seat.number)
            with self._lock:
                seat.label = place
            if starting_s > _START_S:
                raise ActorLost(f"its process has run for {lasted(starting_s)} and is not up yet")
        return True

    def _work(self, seat: Seat[Hand], hand: Hand) -> BaseException | None:
        """Lanes over one actor, to their end; answers what ended them too early."""
        wing = Wing(self._ground.control)
        lanes = Lanes(
            dataclasses.replace(self._ground, control=wing),
            FarGenerator(
                hand,
                self._ground.settings,
                self._ground.catalog,
                stopping=lambda: wing.cancelling,
                ended=lambda: seat.hung,
            ),
            self._heart,
            self.tally,
            functools.partial(self._hear, seat),
            buries=False,
            others=True,
        )
        threads = lanes.start()
        lost = _loss(hand, threads)
        if lost is not None:
            wing.cancel()
        for thread in threads:
            thread.join()
        return lanes.failure or lost

    def _started(self, seat: Seat[Hand], hand: Hand, hello: Hello) -> None:
        with self._lock:
            seat.place = hello.gpu
            seat.label = _label(hello)
            seat.started(hand)
        self._pass_on(WorkerStarted(seat.number, seat.label, hello.pid, hello.log))

    def _lost(self, seat: Seat[Hand], error: DeviceLost) -> None:
        with self._lock:
            why = seat.hung or (error.why if isinstance(error, ActorLost) else error.message)
            self._voices.resumed(seat)
            seat.due = None
            wait_s = seat.lost(why, self._restart_s, time.monotonic())
            seat.cleared()
            if self._ground.control.stopping or self._over():
                seat.due = wait_s = None
        self._pass_on(WorkerLost(seat.number, seat.label, why, wait_s))
        if seat.set_aside is not None:
            self._pass_on(WorkerSetAside(seat.number, seat.label, seat.set_aside))

    def _set_aside(self, seat: Seat[Hand], hello: Hello, why: str) -> None:
        seat.due = None
        seat.label = _label(hello)
        seat.set_aside = why
        self._pass_on(WorkerSetAside(seat.number, seat.label, why))

    # What the lanes say

    def _hear(self, seat: Seat[Hand], event: Event) -> None:
        """Pass on what the lanes of one seat say, as if there were one set of lanes."""
        with self._lock:
            self._voices.heed(seat, event)
            if isinstance(event, JobStalled) and seat.process is not None and seat.hung is None:
                # Its lanes find out, and it is replaced as any that dies.
                seat.hung = f"ended because {told_of(event)}"
                seat.process.kill()

    # Looking around

    def _say_whether_nobody_is_there(self) -> None:
        with self._lock:
            there = bool(self._coming) or any(seat.process is not None for seat in self._seats)
            hoped = not self._seats or any(not seat.over for seat in self._seats)
        if there or not hoped:
            self._nobody_since = None
            if self._told_of_nobody:
                self._told_of_nobody = False
                self._pass_on(Resumed())
            return
        now = time.monotonic()
        self._nobody_since = self._nobody_since or now
        if now - self._nobody_since > _SAY_S and not self._told_of_nobody:
            self._told_of_nobody = True
            self._pass_on(_NOBODY)

    def _bury_strangers(self) -> None:
        """Take the jobs of drivers and workers that died on this machine."""
        with suppress(StorageFailed):  # the lanes say so, and it is tried again
            self._ground.bury()

    def _over(self) -> bool:
        with suppress(StorageFailed):
            return self._ground.jobs.outlook(self._ground.batch.id).over
        return False

    def _slept_until(self, moment: float) -> bool:
        """Wait for ``moment``; false where it need not be waited for."""
        while (left := moment - time.monotonic()) > 0:
            if self._ground.control.stopping:
                return False
            time.sleep(min(left, _LOOK_UP_S))
        return not self._ground.control.stopping

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self._ground.control.ask()


def _loss(hand: Hand, threads: list[threading.Thread]) -> ActorLost | None:
    """Wait for the lanes' end, or for the actor's, which is answered.

    One that dies while it has nothing to do is not to be found out by the next job, which would lose a
    try over it.
    """
    ping, again_at = None, 0.0
    while living := [thread for thread in threads if thread.is_alive()]:
        try:
            if ping is None and time.monotonic() >= again_at:
                ping = hand.ping()
            if ping is not None and hand.ready([ping], 0):
                hand.result(ping)
                ping, again_at = None, time.monotonic() + _PING_S
        except ActorLost as error:
            return error
        living[0].join(_LOOK_UP_S)
    return None


def _label(hello: Hello) -> str:
    return hello.node if hello.gpu is None else f"{hello.gpu.name} at {hello.node}"


def _version() -> str:
    from svd_local import __version__

    return __version__
