"""One worker process, seen from its supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from svd_local.batch.workers.places import Place
from svd_local.batch.workers.protocol import DEVICE_LOST, Failed, Message, Order, from_line
from svd_local.errors import StorageFailed
from svd_local.storage import storing

WORKER_COMMAND = (sys.executable, "-P", "-m", "svd_local.batch.workers.worker")
"""``-P``: a folder the user happens to be in may hold a file called like a library."""
_ROOT = Path(__file__).parents[3]
_LONGEST_LOG = 4 * 2**20
_LINGER_S = 30.0
"""What a worker may take to end once it has nothing left to say."""


class WorkerProcess:
    """A worker that was started, and what it says.

    Args:
        command: the worker's program.
        order: what it is to do.
        place: the GPU it sees; None: as this process does.
        threads: how many threads its arithmetic may use on the CPU, unless the user said; None: all.
        log: what it prints is appended there.
        hear: called from a thread of its own with each message, and with None when there is no more.

    Raises:
        StorageFailed: the log cannot be written.
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        order: Order,
        *,
        place: Place,
        threads: int | None,
        log: Path,
        hear: Callable[[Message | None], None],
    ) -> None:
        self._hear = hear
        self._lock = threading.Lock()
        self._silent_since: float | None = None
        self.failed: Failed | None = None
        self.lingered = False
        """Whether it had to be ended, since it said nothing more and did not end."""
        with storing(log, "folder"):
            log.parent.mkdir(parents=True, exist_ok=True)
            if log.exists() and log.stat().st_size > _LONGEST_LOG:
                log.replace(log.with_suffix(".log.1"))
            sink = log.open("ab")
        with sink:
            sink.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode())
            sink.flush()
            self._process = subprocess.Popen(  # noqa: S603 - our own program, no word of the user's in it
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                bufsize=0,
                env=_environment(place, threads),
                **_own_group(),
            )
        self.pid = self._process.pid
        self.say(order.to_line())
        threading.Thread(target=self._listen, name=f"batch-worker-{self.pid}", daemon=True).start()

    def say(self, word: str) -> None:
        """Tell it; without effect where it is gone, as its silence will show."""
        assert self._process.stdin is not None
        with self._lock, suppress(OSError, ValueError):
            self._process.stdin.write(f"{word}\n".encode("ascii"))

    def ended(self) -> int | None:
        """Its exit status, negative for a signal, once it has ended and all it said was heard."""
        status = self._process.poll()
        if self._silent_since is None:
            return None
        if status is None and time.monotonic() - self._silent_since > _LINGER_S:
            self.lingered = True
            self.kill()
        return status

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self, patience_s: float) -> None:
        """Let go of it: it gives its jobs back and ends; what has not in ``patience_s`` is killed."""
        assert self._process.stdin is not None
        with self._lock, suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def _listen(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        with pipe, suppress(OSError):
            rest = b""
            while block := os.read(pipe.fileno(), 1 << 16):
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._hear_line(line)
        self._silent_since = time.monotonic()
        self._hear(None)

    def _hear_line(self, line: bytes) -> None:
        try:
            message = from_line(line)
        except ValueError:
            return  # a worker killed in the middle of a word
        if isinstance(message, Failed):
            self.failed = message
        self._hear(message)


def cause_of(status: int, failed: Failed | None, lingered: bool = False) -> str:
    """Why a worker ended, in words that go on from "its worker died: "."""
    if lingered:
        return failed.message if failed else "it fell silent without an end, and was ended"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = str(-status)
        often = ", most often because memory ran out" if name == "SIGKILL" else ""
        return f"killed by {name}{often}"
    if failed is not None:
        return failed.message
    if status == 0:
        return "it ended before the batch did"
    return "its GPU was lost" if status == DEVICE_LOST else f"exit status {status}"


def not_started(error: Exception) -> str:
    """Why a worker could not even be started."""
    if isinstance(error, StorageFailed):
        return error.message
    return f"it cannot be started: {error}"


def _environment(place: Place, threads: int | None) -> dict[str, str]:
    environment = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    paths = (str(_ROOT), os.environ.get("PYTHONPATH", ""))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if place is not None:
        environment["CUDA_VISIBLE_DEVICES"] = place.handle
    if threads is not None:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    return environment


def _own_group() -> dict[str, Any]:
    """Arguments of Popen by which Ctrl-C in a terminal reaches the supervisor alone, who passes it on."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
