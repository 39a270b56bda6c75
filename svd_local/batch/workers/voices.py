"""What several workers say, told as if there were one set of lanes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

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
from svd_local.batch.workers.seat import Seat


class Voices:
    """Keeps each seat's record by what its worker says, and passes it on to whoever waits for the batch.

    Lanes are numbered through. That there is nothing to do is told where that holds for all; that one
    pauses is told with the first that does, and that it goes on with the last. For one thread at a time.

    Args:
        seats: of the workers; may grow.
        lanes: of each worker.
        tell: is passed what is worth telling.
    """

    def __init__(
        self, seats: Sequence[Seat[Any]], lanes: int, tell: Callable[[Event], None]
    ) -> None:
        self._seats = seats
        self._lanes = lanes
        self._tell = tell
        self._told_to_wait = False

    def heed(self, seat: Seat[Any], event: Event) -> None:
        """``seat``'s worker said ``event``."""
        if isinstance(event, (JobBegun, JobProgress, JobStalled)):
            if isinstance(event, JobBegun):
                seat.begun(event)
                self._told_to_wait = False
            elif isinstance(event, JobProgress):
                seat.progress(event)
            lane = seat.number * self._lanes + event.lane
            self._tell(dataclasses.replace(event, lane=lane))
        elif isinstance(event, Waiting):
            if not self._told_to_wait and not self._works(event):
                self._told_to_wait = True
                self._tell(event)
        elif isinstance(event, Paused):
            if not any(other.paused for other in self._seats):
                self._tell(event)
            seat.paused = True
        elif isinstance(event, Resumed):
            self.resumed(seat)
        else:
            if isinstance(event, JobDone):
                seat.done(event)
            elif isinstance(event, (JobPostponed, JobFailed)):
                seat.failed(event)
            elif isinstance(event, (JobReleased, JobLost)):
                seat.ended(event.job)
            self._tell(event)

    def _works(self, event: Waiting) -> bool:
        """Whether one of our own is at work after all: it says that it waits once it does.

        It may have claimed a job that it has not begun yet, or is about to give back.
        """
        return any(seat.at_hand or seat.name in event.workers for seat in self._seats)

    def resumed(self, seat: Seat[Any]) -> None:
        """``seat``'s worker pauses no longer: it goes on, or has ended."""
        if seat.paused:
            seat.paused = False
            if not any(other.paused for other in self._seats):
                self._tell(Resumed())
