"""``run_ray``: ``run_batch`` by actors on a Ray cluster."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from contextlib import ExitStack

from svd_local.batch.control import Control, interrupts
from svd_local.batch.events import Begun, Event, EventCallback, Stopping
from svd_local.batch.ground import concluded, folders_of, settled, sweep_all, take
from svd_local.batch.heart import Heart
from svd_local.batch.logbook import Logbook
from svd_local.batch.options import BatchOptions
from svd_local.batch.ray.cluster import Cluster
from svd_local.batch.ray.staff import Staff
from svd_local.batch.ray.values import sorts_of
from svd_local.batch.spec import JobSpec
from svd_local.batch.summary import BatchSummary
from svd_local.errors import InvalidRequest
from svd_local.settings import Settings

_LOOK_UP_S = 0.2
_CANCELLING = 2
_LOOKED_AT = 1000
"""Jobs that are looked at for the sorts of clips there are."""


def run_ray(
    settings: Settings,
    specs: Iterable[JobSpec],
    options: BatchOptions,
    events: EventCallback | None = None,
    *,
    control: Control | None = None,
    address: str | None = None,
    workers: int | None = None,
    restart_s: float = 1.0,
) -> BatchSummary:
    """``run_batch``, its clips made by one actor on each GPU of a Ray cluster.

    This process is the driver. It alone claims jobs, keeps their leases alive and publishes, so the
    guarantees are those of ``run_batch``; several drivers may share a batch through PostgreSQL and a
    shared folder. Actors get pictures and hand over clips as bytes. One that dies, by itself or with
    its node, or that says that its GPU answers no more, is replaced as soon as the cluster has room:
    its jobs are queued again, the tries counted, and made by others meanwhile. One whose node can make
    none of the clips is set aside, with the reason. Without GPUs in the cluster there is an actor on
    each node with CPUs.

    Arguments, events and errors are those of ``run_batch``, with ``WorkerStarted``, ``WorkerLost`` and
    ``WorkerSetAside`` among the events.

    Args:
        settings: this machine's. What decides which clip is made holds on all nodes; folders, tokens
            and memory are each node's own.
        specs: all jobs of the manifest.
        options: ``lanes`` is that of each actor.
        events: told what happens, in the calling thread.
        control: for other threads to stop the batch by.
        address: of the cluster; see ``Cluster``.
        workers: how many actors; None: one for each GPU, also of nodes that join later.
        restart_s: wait before an actor that failed is replaced; doubled with each that fails after it.

    Raises:
        InvalidRequest: Ray is not installed, or no cluster answers; or as ``run_batch`` does.
        StorageFailed: the folder or the catalog cannot be used.
        Exception: what ``events`` raised, after the clips at hand were cancelled.
    """
    if workers is not None and workers < 1:
        raise InvalidRequest(
            f"workers: {workers} on a cluster make no clip",
            hint="Write 1 or more.",
            field="workers",
        )
    with Cluster(address) as cluster:
        return run_on(
            cluster,
            settings,
            specs,
            options,
            events,
            control or Control(),
            workers=workers,
            restart_s=restart_s,
        )


def run_on(
    cluster: Cluster,
    settings: Settings,
    specs: Iterable[JobSpec],
    options: BatchOptions,
    events: EventCallback | None,
    control: Control,
    *,
    workers: int | None = None,
    restart_s: float = 1.0,
) -> BatchSummary:
    """``run_ray`` on a cluster that is connected."""
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with ExitStack() as stack:
        ground, enrolment = take(stack, settings, specs, options, control)
        catalog, batch = ground.catalog, ground.batch
        heart = stack.enter_context(Heart(catalog.jobs, options.lease_s))
        stack.enter_context(interrupts(control))
        queued = catalog.jobs.jobs(batch.id, state="queued", limit=_LOOKED_AT)
        staff = Staff(
            ground,
            heart,
            told.put,
            cluster=cluster,
            workers=workers,
            sorts=sorts_of(queued),
            restart_s=restart_s,
        )
        book = stack.enter_context(
            Logbook(catalog.jobs, batch.id, ground.presence.name, lambda: staff.summary(batch, ()))
        )
        folders = folders_of(catalog, batch.id, options.folder)

        def adopt_all() -> None:
            for folder in folders:
                ground.adopt(folder, staff.tally, told.put)

        adopt_all()
        ground.bury()
        told.put(Begun(settled(catalog, enrolment), sweep_all(folders)))
        thread = threading.Thread(target=staff.work, name="ray-staff")
        thread.start()
        _wait(thread, told, book.hearing(events), control)
        if staff.failure is not None:
            raise staff.failure
        adopt_all()  # a job whose driver died in its last try is done all the same
        return concluded(ground, folders, staff.summary, book)


def _wait(
    thread: threading.Thread,
    told: queue.SimpleQueue[Event],
    events: EventCallback,
    control: Control,
) -> None:
    """Pass events on until the staff has ended and all is told."""
    failure: BaseException | None = None
    said = 0
    while True:
        try:
            wish = _CANCELLING if control.cancelling else int(control.stopping)
            if wish > said:
                said = wish
                told.put(Stopping(cancelling=wish == _CANCELLING))
            ended = not thread.is_alive()
            try:
                event = told.get(timeout=0 if ended else _LOOK_UP_S)
            except queue.Empty:
                if ended:
                    break
                continue
            if failure is None:
                events(event)
        except KeyboardInterrupt:
            control.ask()
        except BaseException as error:  # noqa: BLE001 - raised again once the staff has ended
            failure = error
            control.cancel()
    if failure is not None:
        raise failure
