"""``run_batch``: make every clip of a batch that can be made, on this machine, in this process."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack

from svd_local.batch.control import Control
from svd_local.batch.events import Begun, Event, EventCallback, Stopping
from svd_local.batch.ground import concluded, folders_of, settled, sweep_all, take
from svd_local.batch.heart import Heart
from svd_local.batch.lanes import Lanes
from svd_local.batch.logbook import Logbook
from svd_local.batch.options import BatchOptions
from svd_local.batch.spec import JobSpec
from svd_local.batch.summary import BatchSummary, Tally
from svd_local.catalog.jobs import Batch, Job
from svd_local.errors import Cancelled
from svd_local.generator import VideoGenerator
from svd_local.settings import Settings

_LOOK_UP_S = 0.2
_CANCEL_PATIENCE_S = 30.0
"""What clips at hand may take to be cancelled before they are left where they are."""


def run_batch(
    settings: Settings,
    specs: Iterable[JobSpec],
    options: BatchOptions,
    events: EventCallback | None = None,
    *,
    control: Control | None = None,
    generator: VideoGenerator | None = None,
) -> BatchSummary:
    """Enrol ``specs`` and work until every job of the batch is done, given up or cancelled.

    The same call goes on with the same batch, whatever happened to the process before: what was done
    stays done, what was begun is begun again, what was published without its row is adopted. Several
    processes may work on one batch at once; each stays until the last job is over, so that it can
    take over from one that dies.

    ``KeyboardInterrupt`` in the calling thread is taken as ``control.ask``: the first finishes the
    clips at hand, the second cancels them and gives their jobs back.

    Args:
        settings: the machine's.
        specs: all jobs of the manifest, in its order; read once.
        options: the batch's name, its folder, and how it is run.
        events: told what happens, in the calling thread.
        control: for other threads to stop the batch by.
        generator: kept loaded by the caller; None makes one for the batch and closes it.

    Raises:
        InvalidRequest: the batch of that name has another output folder.
        StorageFailed: the folder or the catalog cannot be used; for ten minutes, once work has begun.
        DeviceLost: the GPU answers this process no more; a new one can go on. ``supervise_batch`` does.
        Cancelled: a clip at hand could not be cancelled in half a minute, because a call of it does not
            come back. It is left behind in its thread, and the process should end.
        Exception: what ``events`` raised, after the clips at hand were cancelled.
    """
    control = control or Control()
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with ExitStack() as stack:
        ground, enrolment = take(stack, settings, specs, options, control)
        catalog, batch = ground.catalog, ground.batch
        if generator is None:
            generator = stack.enter_context(VideoGenerator(settings))
        heart = stack.enter_context(Heart(catalog.jobs, options.lease_s))
        tally = Tally()

        def summarise(now: Batch, failures: tuple[Job, ...] = ()) -> BatchSummary:
            return tally.summary(now, failures, stopped=control.stopping)

        book = stack.enter_context(
            Logbook(catalog.jobs, batch.id, ground.presence.name, lambda: summarise(batch))
        )
        lanes = Lanes(ground, generator, heart, tally, told.put)
        folders = folders_of(catalog, batch.id, options.folder)
        for folder in folders:
            lanes.adopt(folder)
        lanes.bury()
        told.put(Begun(settled(catalog, enrolment), sweep_all(folders)))
        ended = _wait(lanes.start(), told, book.hearing(events), control)
        if not ended:
            stack.pop_all()  # to close what a hanging clip uses would hang as well
            lanes.abandon()
            error = lanes.failure or Cancelled(
                "stopped, but a clip at hand could not be: a call of it does not come back",
                hint="End this process; the same command goes on with all other clips first.",
            )
            book.failed(error)
            raise error
        if lanes.failure is not None:
            raise lanes.failure
        for folder in folders:
            lanes.adopt(folder)  # a job whose worker died in its last try is done all the same
        return concluded(ground, folders, summarise, book)


def _wait(
    threads: list[threading.Thread],
    told: queue.SimpleQueue[Event],
    events: EventCallback,
    control: Control,
) -> bool:
    """Pass events on until the lanes have ended and all is told; false where one cannot be cancelled."""
    give_up: float | None = None
    failure: BaseException | None = None
    while True:
        try:
            ended = not any(thread.is_alive() for thread in threads)
            try:
                event = told.get(timeout=0 if ended else _LOOK_UP_S)
            except queue.Empty:
                if ended:
                    break
                if control.cancelling:
                    give_up = give_up or time.monotonic() + _CANCEL_PATIENCE_S
                    if time.monotonic() > give_up:
                        break
                continue
            if failure is None:
                events(event)
        except KeyboardInterrupt:
            control.ask()
            told.put(Stopping(control.cancelling))
        except BaseException as error:  # noqa: BLE001 - raised again once the lanes have ended
            failure = error
            control.cancel()
    if failure is not None:
        raise failure
    return ended
