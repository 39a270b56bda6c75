"""A run of a batch, noted in the catalog: who looks from another shell, or in the morning, is told of it.

A run that is killed cannot say so. Its note is there from its beginning on and renewed while it lasts, so
that what it had come to is known, and that it came to no end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from svd_local.batch.events import Event, EventCallback, JobProgress, Paused, Resumed
from svd_local.batch.summary import BatchSummary
from svd_local.catalog.identity import new_id
from svd_local.catalog.jobs import RUN_HOLDS_S, RunState
from svd_local.errors import StorageFailed, SvdLocalError

if TYPE_CHECKING:
    from svd_local.catalog.jobs import Jobs

_LOG = logging.getLogger(__name__)
_AGAIN_S = RUN_HOLDS_S / 4
_LEAST_S = 1.0
"""Between two notes, however much happens."""
_PATIENCE_S = 20.0
"""What the last note may take: longer than a locked SQLite file is waited for."""


class Logbook:
    """One run's note, from the beginning to the end of the block; a context manager.

    A note is for people: one that cannot be written, as when the disk is full to the last byte, is tried
    again with the next, and nothing else depends on it. It is written by a thread of its own: a catalog
    that is slow, or locked, holds up nobody.

    Args:
        jobs: of the catalog, which has to stay open.
        batch_id: the batch's.
        who: the command's sign of life, by name.
        so_far: what the run has come to by now; called by the thread.
    """

    def __init__(
        self, jobs: Jobs, batch_id: str, who: str, so_far: Callable[[], BatchSummary]
    ) -> None:
        self._jobs = jobs
        self._batch_id = batch_id
        self._run_id = new_id(datetime.now(UTC))
        self._who = who
        self._so_far = so_far
        self._changed = threading.Condition()
        self._news = False
        self._pause: Paused | None = None
        self._state: RunState = "running"
        self._last: Mapping[str, Any] = {}
        self._thread = threading.Thread(target=self._keep, name="batch-logbook", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.failed(error)

    def hearing(self, events: EventCallback | None) -> EventCallback:
        """``events``, for who tells them in the calling thread; what they change is noted."""

        def hear(event: Event) -> None:
            self._hear(event)
            if events is not None:
                events(event)

        return hear

    def ended(self, summary: BatchSummary) -> None:
        """The run has come to its end, and to this."""
        self._end("ended", summary.figures())

    def failed(self, error: BaseException | None) -> None:
        """It ends with an error; without effect where it has ended already."""
        if self._state == "running":
            said = None if error is None else _told(error)
            self._end("failed", self._so_far().figures() | {"error": said})

    def _hear(self, event: Event) -> None:
        if isinstance(event, JobProgress):
            return
        with self._changed:
            if isinstance(event, (Paused, Resumed)):
                self._pause = event if isinstance(event, Paused) else None
            self._news = True
            self._changed.notify()

    def _end(self, state: RunState, last: Mapping[str, Any]) -> None:
        with self._changed:
            if self._state != "running":
                return
            self._state, self._last, self._pause = state, last, None
            self._changed.notify()
        self._thread.join(_PATIENCE_S)

    def _keep(self) -> None:
        """The thread: write at once, with what is new, before a note lapses, and at the end."""
        while True:
            with self._changed:
                state, pause, self._news = self._state, self._pause, False
            try:
                with suppress(StorageFailed):
                    self._write(state, pause)
            except Exception:  # noqa: BLE001 - told, and tried again: nothing depends on a note
                _LOG.exception("a run could not be noted")
            if state != "running":
                return
            with self._changed:
                if self._state == "running":
                    self._changed.wait_for(lambda: self._state != "running", _LEAST_S)
                    self._changed.wait_for(
                        lambda: self._news or self._state != "running", _AGAIN_S - _LEAST_S
                    )

    def _write(self, state: RunState, pause: Paused | None) -> None:
        figures = self._so_far().figures() if state == "running" else self._last
        self._jobs.note_run(
            self._batch_id,
            self._run_id,
            self._who,
            state,
            figures,
            elapsed_s=figures["elapsed_s"],
            pause=None if pause is None else (pause.why, pause.hint),
        )


def _told(error: BaseException) -> Mapping[str, str]:
    """As people are told it; of an error that is not ours its type only."""
    if isinstance(error, SvdLocalError):
        return {"code": error.code, "message": error.message}
    return {"code": "unexpected", "message": type(error).__name__}
