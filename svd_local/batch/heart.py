"""Keeping leases alive while clips are made: one thread for all of this process's.

The heart beats only for clips that live themselves. A lease whose clip hangs is left to lapse, so that
another worker can take the job over; should the clip come back to life before one has, so does its
lease, and nothing is lost.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from svd_local.batch.stalls import Signs
from svd_local.catalog.jobs import Lease
from svd_local.errors import LeaseLost, StorageFailed

if TYPE_CHECKING:
    from svd_local.catalog.jobs import Jobs

_LOG = logging.getLogger(__name__)
_BEATS_A_LEASE = 4

Stalled = Callable[[float, str], None]
"""Called with how long a clip has been silent and what it was last heard to do."""


class Pulse:
    """Whether a lease is still held, as far as is known, and whether its clip shows signs of life."""

    def __init__(self, lease: Lease, signs: Signs | None = None, stalled: Stalled | None = None):
        self.lease = lease
        self.lost = False
        self.signs = signs
        self._stalled = stalled
        self._told = False

    @property
    def alive(self) -> bool:
        """Whether the clip was heard of lately; the first time that it was not is told."""
        silent = None if self.signs is None else self.signs.silent()
        if silent is not None and not self._told and self._stalled is not None:
            self._stalled(*silent)
        self._told = silent is not None
        return silent is None


class Heart:
    """Puts off the end of every lease it keeps, four times in a lease's time, as long as there are signs
    of life; a context manager.

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
    def keeping(
        self, lease: Lease, signs: Signs | None = None, stalled: Stalled | None = None
    ) -> Iterator[Pulse]:
        """Keep ``lease`` within the block; with ``signs`` only as long as there are some.

        ``stalled`` is told from the heart's thread where there are none any more, once for each time.
        """
        pulse = Pulse(lease, signs, stalled)
        with self._lock:
            self._pulses.add(pulse)
        try:
            yield pulse
        finally:
            with self._lock:
                self._pulses.discard(pulse)

    def let_go(self) -> list[Lease]:
        """Stop keeping whatever is kept; answers the leases that are held and whose clips are alive."""
        with self._lock:
            pulses, self._pulses = self._pulses, set()
        held = [pulse.lease for pulse in pulses if not pulse.lost and pulse.alive]
        for pulse in pulses:
            pulse.lost = True  # should its clip come to an end all the same
        return held

    def _beat(self) -> None:
        while not self._over.wait(self._pause_s):
            with self._lock:
                pulses = [pulse for pulse in self._pulses if not pulse.lost]
            for pulse in pulses:
                try:
                    if not pulse.alive:
                        continue
                    self._jobs.heartbeat(pulse.lease)
                except LeaseLost:
                    pulse.lost = True
                except StorageFailed:
                    continue
                except Exception:  # noqa: BLE001 - told, and tried again with the next beat
                    # Whatever it was: a heart that stops would lose every lease without a word.
                    _LOG.exception("a lease could not be renewed")
