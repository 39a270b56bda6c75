"""Pauses, noted in the catalog while they last: who looks from another shell, or in the morning, is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from svd_local.batch.events import Begun, Event, EventCallback, Paused, Resumed
from svd_local.batch.liveness import own_name
from svd_local.errors import StorageFailed
from svd_local.settings import Settings

HOLDS_S = 60.0
"""How long a note holds without being written again, as after ``kill -9``."""
_AGAIN_S = 15.0
_PATIENCE_S = 5.0


@contextmanager
def noted_pauses(settings: Settings, events: EventCallback) -> Iterator[EventCallback]:
    """``events``, for ``run_batch`` and its like, with every pause noted as long as it lasts.

    A note is for people: one that cannot be written, as when the disk is full to the last byte, is tried
    again with the next, and nothing else depends on it. While nothing pauses this costs nothing.
    """
    notes = _Notes(settings)

    def hear(event: Event) -> None:
        notes.hear(event)
        events(event)

    try:
        yield hear
    finally:
        notes.end()


class _Notes:
    """Writes in a thread of its own: a catalog that is slow, or locked, holds up nobody."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._who = own_name()
        self._batch: str | None = None
        self._changed = threading.Condition()
        self._pause: Paused | None = None
        self._over = False
        self._thread: threading.Thread | None = None

    def hear(self, event: Event) -> None:
        """Take note of what matters; for one thread."""
        if isinstance(event, Begun):
            self._batch = event.enrolment.batch.id
        elif isinstance(event, (Paused, Resumed)) and self._batch is not None:
            with self._changed:
                self._pause = event if isinstance(event, Paused) else None
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._write, args=(self._batch,), name="batch-pauses", daemon=True
                )
                self._thread.start()

    def end(self) -> None:
        """The command is over, and so is its pause."""
        with self._changed:
            self._pause, self._over = None, True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_PATIENCE_S)

    def _write(self, batch_id: str) -> None:
        from svd_local.catalog import Catalog

        with Catalog(self._settings.database_url, self._settings.media_dir) as catalog:
            jobs, there = catalog.jobs, False
            while True:
                with self._changed:
                    pause, over = self._pause, self._over
                with suppress(StorageFailed):
                    if pause is not None:
                        there = True
                        jobs.pausing(batch_id, self._who, pause.why, pause.hint, holds_s=HOLDS_S)
                    elif there:
                        jobs.going_on(batch_id, self._who)
                        there = False
                if over:
                    return
                with self._changed:
                    if (self._pause, self._over) == (pause, over):
                        self._changed.wait(_AGAIN_S if pause is not None or there else None)
