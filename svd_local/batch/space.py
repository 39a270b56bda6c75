"""Room on the disk: looked at before each clip, so that no night ends in half-written files."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from svd_local.batch.events import Paused
from svd_local.errors import DiskFull, StorageFailed
from svd_local.request import format_bytes
from svd_local.storage import storing

_FREED = 1 << 20
"""Bytes by which room has grown where somebody has made some."""
_FIRST_S, _LONGEST_S = 60.0, 600.0


@dataclass(frozen=True, slots=True)
class _Full:
    """A write that found no room, where the device's figures know nothing of it."""

    error: DiskFull
    free: tuple[int, ...]
    """Bytes that were free, when its files were taken back."""
    until: float
    """The moment from which it is worth another try though nothing has changed."""


class Space:
    """The room for clips, as the lanes of one process find it; thread-safe.

    What is free tells most of it. A quota, a small device, or a database on another one tells by an
    error only: then nothing is begun before something was freed, or a minute has passed, and twice as
    long each time that does not help, ten minutes at most.

    Args:
        folders: where clips and catalog are written.
        reserve: bytes that are to stay free.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        reserve: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = folders
        self._reserve = reserve
        self._clock = clock
        self._lock = threading.Lock()
        self._full: _Full | None = None
        self._streak = 0

    def full(self, error: DiskFull) -> None:
        """A clip found no room; its files are gone again."""
        with self._lock:
            wait_s = min(_FIRST_S * 2.0**self._streak, _LONGEST_S)
            self._full = _Full(error, self._free(), self._clock() + wait_s)
            self._streak += 1

    def fits(self) -> None:
        """A clip found room."""
        with self._lock:
            self._full, self._streak = None, 0

    def shortage(self) -> Paused | None:
        """Why no clip should be begun now; None where there is room, as far as can be told."""
        for folder in self._folders:
            try:
                with storing(folder):
                    free = free_bytes(folder)
            except StorageFailed as error:
                return Paused(error.message, error.hint, folder)
            if free < self._reserve:
                return Paused(
                    f"{folder} has {format_bytes(free)} free, and {format_bytes(self._reserve)} are kept",
                    "Free some space, and the batch goes on; or lower SVD_LOCAL_DISK_RESERVE.",
                    folder,
                )
        with self._lock:
            if self._full is None or self._clock() >= self._full.until or self._has_grown():
                self._full = None
                return None
            return Paused(self._full.error.message, "Free some space, and the batch goes on.")

    def _has_grown(self) -> bool:
        assert self._full is not None
        now = zip(self._free(), self._full.free, strict=True)
        return any(free >= before + _FREED for free, before in now)

    def _free(self) -> tuple[int, ...]:
        try:
            return tuple(free_bytes(folder) for folder in self._folders)
        except OSError:
            return (0,) * len(self._folders)


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the device where ``folder`` is, or would be."""
    ground = folder.absolute()
    while not ground.exists():
        ground = ground.parent
    return shutil.disk_usage(ground).free
