"""A worker process: makes clips of an enrolled batch until all are over, or until it is told to end.

Started by a supervisor as ``python -m svd_local.batch.workers.worker``, with one GPU to see. It says
what happens on what was its standard output; whatever libraries print goes to its log, which is its
standard error. It ends when its standard input does: no worker outlives its supervisor.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import RawIOBase
from types import FrameType

from svd_local.batch.control import Control
from svd_local.batch.ground import Ground, folders_of
from svd_local.batch.heart import Heart
from svd_local.batch.lanes import Lanes
from svd_local.batch.liveness import Presence
from svd_local.batch.summary import Tally
from svd_local.batch.workers.protocol import (
    CANCEL,
    DEVICE_LOST,
    STOP,
    Alive,
    Failed,
    Hello,
    Message,
    Order,
    to_line,
)
from svd_local.batch.workers.silence import BEATS_A_LEASE
from svd_local.errors import DeviceLost, SvdLocalError
from svd_local.generator import VideoGenerator
from svd_local.settings import Settings

_LAST_WORDS_S = 20.0
"""What a worker without supervisor may take to give its jobs back before it ends all the same."""
_LOOK_UP_S = 0.2

Probe = Callable[[], str | None]


def main(
    make_generator: Callable[[Settings], VideoGenerator] = VideoGenerator,
    probe: Probe | None = None,
) -> int:
    """Do what standard input orders; answers the exit status. A lost GPU ends the process itself.

    Args:
        make_generator: for tests, and for whoever has tiers of their own.
        probe: says why the GPU cannot be used, None where it can.
    """
    voice = Voice()
    control = Control()
    try:
        # Unbuffered: a buffer's lock, held by the listening thread, would break the interpreter's end.
        orders = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - open to the end
        order = Order.from_line(orders.readline().decode())
        _listen(orders, control)
        with _beating(voice, order.options.lease_s / BEATS_A_LEASE), _heeding_signals(control):
            work(order, voice.say, control, make_generator, probe or _no_answer)
    except DeviceLost as error:
        voice.say(Failed.of(error))
        traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(
            DEVICE_LOST
        )  # what is on the GPU would abort the interpreter while it is cleared up
    except BaseException as error:
        voice.say(Failed.of(error))
        if not isinstance(error, SvdLocalError):
            raise
        return 2 if error.exit_status == 2 else 1
    return 0


def work(
    order: Order,
    say: Callable[[Message], None],
    control: Control,
    make_generator: Callable[[Settings], VideoGenerator],
    probe: Probe,
) -> None:
    """Work on the batch of ``order`` until every job of it is over, or ``control`` is asked.

    Raises:
        DeviceLost: the GPU does not answer, or ceased to.
        InvalidRequest: the settings mean nothing.
        StorageFailed: the catalog cannot be used.
        NotFound: it has no such batch.
    """
    from svd_local.catalog import Catalog

    settings, options = order.to_settings(), order.options
    with ExitStack() as stack:
        catalog = stack.enter_context(Catalog(settings.database_url, settings.media_dir))
        catalog.open()
        batch = catalog.jobs.batch(order.batch)
        why = probe() if order.gpu else None
        if why is not None:
            raise DeviceLost(f"the GPU cannot be used: {why}", hint="Look at nvidia-smi and dmesg.")
        presence = stack.enter_context(Presence(settings.media_dir))
        say(Hello(presence.name))
        generator = stack.enter_context(make_generator(settings))
        heart = stack.enter_context(Heart(catalog.jobs, options.lease_s))
        ground = Ground(settings, catalog, presence, batch, options, control)
        lanes = Lanes(ground, generator, heart, Tally(), say, buries=False)
        for folder in folders_of(catalog, batch.id, options.folder):
            lanes.adopt(folder)
        threads = lanes.start()
        for thread in threads:
            while thread.is_alive():  # in slices: signals are heard between them
                thread.join(_LOOK_UP_S)
        if lanes.failure is not None:
            raise lanes.failure


class Voice:
    """The worker's line to its supervisor; thread-safe.

    It takes standard output for itself, and has everybody else who writes there write to the log.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe = os.dup(1)
        os.dup2(2, 1)

    def say(self, message: Message) -> None:
        """Say it; without effect where nobody listens any more, as ``_listen`` finds out."""
        line = memoryview(f"{to_line(message)}\n".encode("ascii"))
        with self._lock, suppress(OSError):
            while line:
                line = line[os.write(self._pipe, line) :]


@contextmanager
def _beating(voice: Voice, every_s: float) -> Iterator[None]:
    """Say ``Alive`` within the block, from a thread that waits for nothing else."""
    over = threading.Event()

    def beat() -> None:
        while True:
            voice.say(Alive())
            if over.wait(every_s):
                return

    threading.Thread(target=beat, name="worker-beat", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _listen(orders: RawIOBase, control: Control) -> None:
    """Heed the supervisor from a thread of its own, down to its silence."""

    def listen() -> None:
        for line in orders:
            word = line.decode(errors="replace").strip()
            if word == STOP:
                if not control.stopping:
                    control.ask()
            elif word == CANCEL:
                control.cancel()
        control.cancel()
        # A clip that cannot be stopped, in the middle of a long call, does not keep the GPU for ever.
        faulthandler.dump_traceback_later(_LAST_WORDS_S, exit=True)

    threading.Thread(target=listen, name="worker-orders", daemon=True).start()


class _heeding_signals:  # noqa: N801 - used as a function
    """Takes SIGINT and SIGTERM for ``control.ask`` within the block."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def __enter__(self) -> None:
        self._before = {
            which: signal.signal(which, self._ask) for which in (signal.SIGINT, signal.SIGTERM)
        }

    def __exit__(self, *_: object) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)

    def _ask(self, which: int, frame: FrameType | None) -> None:
        self._control.ask()


def _no_answer() -> str | None:
    from svd_local.engine.context import why_lost

    return why_lost()


if __name__ == "__main__":
    sys.exit(main())
