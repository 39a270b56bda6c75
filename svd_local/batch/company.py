"""Which lanes work beside one another: a job that a worker died over is made alone.

A worker that dies takes all jobs in its lanes with it, and only one of them was the cause. Each has a
try less for it, and each is under suspicion: made alone from then on, so that a job which kills whoever
makes it takes no innocent one along to the dead letters.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from svd_local.catalog.jobs import WORKER_LOST, Job
from svd_local.errors import DeviceLost

_LOOK_UP_S = 0.1


def is_suspect(job: Job) -> bool:
    """Whether its last try ended with its worker."""
    return job.reason is not None and job.reason.code in (WORKER_LOST, DeviceLost.code)


class Company:
    """The lanes of one process, as far as they claim or make a job.

    Args:
        leaving: whether waiting makes no sense any more.
    """

    def __init__(self, leaving: Callable[[], bool]) -> None:
        self._leaving = leaving
        self._changed = threading.Condition()
        self._present = 0
        self._hermit: int | None = None
        """The thread that is alone, or waits to be: nobody else joins."""

    @contextmanager
    def joined(self) -> Iterator[bool]:
        """Be among the others within the block, once nobody is alone; false: do not, it is time to leave."""
        with self._changed:
            there = self._await(lambda: self._hermit is None)
            self._present += there
        try:
            yield there
        finally:
            self._leave(there)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Be alone within the block, once the others are done; false: do not, it is time to leave."""
        there = False
        with self._changed:
            if self._await(lambda: self._hermit is None):
                self._hermit = threading.get_ident()
                there = self._await(lambda: self._present == 0)
                self._present += there
        try:
            yield there
        finally:
            self._leave(there)

    def stay_alone(self) -> bool:
        """For a lane that has joined: keep others out till it leaves; false where one is there already."""
        with self._changed:
            if self._present > 1 or self._hermit is not None:
                return False
            self._hermit = threading.get_ident()
            return True

    def _await(self, moment: Callable[[], bool]) -> bool:
        while not moment():
            if self._leaving():
                return False
            self._changed.wait(_LOOK_UP_S)
        return True

    def _leave(self, there: bool) -> None:
        with self._changed:
            self._present -= there
            if self._hermit == threading.get_ident():
                self._hermit = None
            self._changed.notify_all()
