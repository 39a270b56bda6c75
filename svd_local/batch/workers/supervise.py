"""``supervise_batch``: ``run_batch`` by worker processes, each replaced where it dies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svd_local.batch.control import Control, interrupts
from svd_local.batch.events import Begun, EventCallback
from svd_local.batch.ground import concluded, folders_of, settled, sweep_all, take
from svd_local.batch.logbook import Logbook
from svd_local.batch.options import BatchOptions
from svd_local.batch.run import run_batch
from svd_local.batch.spec import JobSpec
from svd_local.batch.summary import BatchSummary
from svd_local.batch.workers.gpu_use import GpuUse
from svd_local.batch.workers.places import Place, choose_places
from svd_local.batch.workers.process import WORKER_COMMAND
from svd_local.batch.workers.supervisor import Supervisor
from svd_local.catalog.jobs import Batch, Job
from svd_local.settings import Settings

if TYPE_CHECKING:
    from svd_local.generator import VideoGenerator


@dataclass(frozen=True, slots=True)
class Staff:
    """Which worker processes, and how they are replaced."""

    places: Sequence[Place]
    command: Sequence[str] = WORKER_COMMAND
    restart_s: float = 1.0
    """Wait before a worker that failed is replaced; doubled with each that fails after it, at most a
    minute."""


def supervise_batch(
    settings: Settings,
    specs: Iterable[JobSpec],
    options: BatchOptions,
    events: EventCallback | None = None,
    *,
    control: Control | None = None,
    generator: VideoGenerator | None = None,
    workers: int | None = None,
    gpus: Sequence[str] | None = None,
) -> BatchSummary:
    """``run_batch``, its clips made by one supervised worker process on each GPU.

    This process only watches: it loads no torch. A worker that dies, whatever the cause, or says that
    its GPU answers no more, is replaced; its jobs are queued again, the tries counted, so that one that
    kills every worker is given up in the end. A GPU on which three workers in a row fail without having
    finished a clip, and not all over the same job, is set aside; where none is left the batch ends, its
    jobs kept queued. Workers end with this process, however it ends.

    Without GPUs the batch runs in this process unless ``workers`` asks for processes. Arguments, events
    and errors are those of ``run_batch``; events of all workers come in one stream, their lanes numbered
    through, with ``WorkerStarted``, ``WorkerLost`` and ``WorkerSetAside`` among them.

    Args:
        settings: the machine's; workers get the same.
        specs: all jobs of the manifest.
        options: ``lanes`` is that of each worker.
        events: told what happens, in the calling thread.
        control: for other threads to stop the batch by.
        generator: used only where the batch runs in this process.
        workers: how many processes; 0 for none; None: one a GPU.
        gpus: on which, by number or UUID; None: all that are seen.

    Raises:
        InvalidRequest: there are no such GPUs; or as ``run_batch`` does.
        StorageFailed: the folder or the catalog cannot be used.
        Exception: what ``events`` raised, after the clips at hand were cancelled.
    """
    places = choose_places(workers, gpus)
    if not places:
        return run_batch(settings, specs, options, events, control=control, generator=generator)
    return supervise(settings, specs, options, events, control or Control(), Staff(places))


def supervise(
    settings: Settings,
    specs: Iterable[JobSpec],
    options: BatchOptions,
    events: EventCallback | None,
    control: Control,
    staff: Staff,
) -> BatchSummary:
    """``supervise_batch`` with the staff decided."""
    with ExitStack() as stack:
        ground, enrolment = take(stack, settings, specs, options, control)
        catalog, batch = ground.catalog, ground.batch
        folders = folders_of(catalog, batch.id, options.folder)
        uuids = [place.uuid for place in staff.places if place is not None and place.uuid]
        gpu_use = stack.enter_context(GpuUse(uuids))
        stack.enter_context(interrupts(control))

        def summarise(now: Batch, failures: tuple[Job, ...] = ()) -> BatchSummary:
            return supervisor.summary(now, failures, gpu_use)

        book = Logbook(catalog.jobs, batch.id, ground.presence.name, lambda: summarise(batch))
        supervisor = stack.enter_context(
            Supervisor(
                ground,
                book.hearing(events),
                places=staff.places,
                command=staff.command,
                restart_s=staff.restart_s,
            )
        )
        stack.enter_context(book)
        for folder in folders:
            supervisor.adopt(folder)
        supervisor.bury_strangers()
        supervisor.tell(Begun(settled(catalog, enrolment), sweep_all(folders)))
        supervisor.run()
        return concluded(ground, folders, summarise, book)
