"""Keeping leases alive while clips are made: one thread for all of this process's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from svd_local.catalog.jobs import Lease
from svd_local.errors import LeaseLost, StorageFailed

if TYPE_CHECKING:
    from svd_local.catalog.jobs import Jobs

_LOG = logging.getLogger(__name__)
_BEATS_A_LEASE = 4


class Pulse:
    """Whether a lease is still held, as far as is known."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lost = False


class Heart:
    """Puts off the end of every lease it keeps, four times in a lease's time; a context manager.

    A catalog that cannot be used for a moment is no loss: the next beat tries again, and whether the
    lease was kept is decided when the clip is published.
    """

    def __init__(self, jobs: Jobs, lease_s: float) -> None:
        self._jobs = jobs
        self._pause_s = lease_s / _BEATS_A_LEASE
        self._pulses: set[Pulse] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="batch-heart", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    @contextmanager
    def keeping(self, lease: Lease) -> Iterator[Pulse]:
        """Keep ``lease`` within the block."""
        pulse = Pulse(lease)
        with self._lock:
            self._pulses.add(pulse)
        try:
            yield pulse
        finally:
            with self._lock:
                self._pulses.discard(pulse)

    def _beat(self) -> None:
        while not self._over.wait(self._pause_s):
            with self._lock:
                pulses = [pulse for pulse in self._pulses if not pulse.lost]
            for pulse in pulses:
                try:
                    self._jobs.heartbeat(pulse.lease)
                except LeaseLost:
                    pulse.lost = True
                except StorageFailed:
                    continue
                except Exception:  # noqa: BLE001 - told, and tried again with the next beat
                    # Whatever it was: a heart that stops would lose every lease without a word.
                    _LOG.exception("a lease could not be renewed")
