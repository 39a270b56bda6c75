"""The one place of the package that starts a foreign program.

``run`` and ``stream`` start ffmpeg, feed its standard input from an iterator, hand out its standard
output, and promise, whatever happens: it ends by its deadline, it is killed with everything it
started when the caller cancels or fails, its complaints are in the error, and nothing is left behind.

The caller's thread makes the buffers, takes the blocks and asks for cancellation; one thread writes
and one reads, so that a pipe nobody empties can block neither the deadline nor the caller. That needs
nothing but threads, so it does not depend on the system; process groups do (see ``_own_group``).
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from svd_local.errors import DiskFull, MediaFailed
from svd_local.media.binary import REINSTALL_HINT, executable
from svd_local.media.files import FULL_HINT
from svd_local.media.messages import complaints, is_no_room, message_file, read

Check = Callable[[], None]
"""Called often while ffmpeg runs, in the caller's thread; what it raises ends ffmpeg."""

OTHER_HINT = "`svd-local status` shows which ffmpeg is used; IMAGEIO_FFMPEG_EXE names another."

THREADS = 4
"""For every codec and filter graph. Each thread holds pictures of its own, so left to itself a machine
of 64 cores takes gigabytes; and with a fixed number the same frames give the same file everywhere."""

T_co = TypeVar("T_co", covariant=True)

_POLL_S = 0.05
_BLOCK = 1 << 18
_BLOCKS_AHEAD = 16


def usual_options(level: str) -> list[str]:
    """Options for every run: no questions, no banner, messages from ``level`` on, marked as such."""
    return ["-hide_banner", "-nostdin", "-nostats", "-loglevel", f"level+{level}"]


def version() -> str:
    """The version of the ffmpeg in use, as it names itself, for example ``9.0.2``.

    Raises:
        MediaFailed: there is none, or it does not answer.
    """
    binary = executable()
    return _version(binary, binary.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _version(binary: Path, changed: int) -> str:
    answer = run(["-version"], doing="tell its version", deadline_s=10.0)
    first = answer.output.decode(errors="replace").partition("\n")[0]
    match = re.match(r"ffmpeg version (\S+)", first)
    if match is None:
        raise MediaFailed(
            f"{binary} does not answer like an ffmpeg: {first!r}", hint=REINSTALL_HINT
        )
    number = re.match(r"n?(\d+(?:\.\d+)+)", match[1])
    return match[1] if number is None else number[1]


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that ended well: standard output, standard error, and the seconds it took."""

    output: bytes
    messages: str
    seconds: float


def run(
    arguments: Sequence[str],
    *,
    doing: str,
    deadline_s: float,
    stall_s: float | None = None,
    feed: Iterable[bytes | memoryview] | None = None,
    check: Check | None = None,
    cwd: Path | None = None,
    hint: str = OTHER_HINT,
) -> Finished:
    """Run ffmpeg to its end and return what it said. Arguments and errors as for ``stream``."""
    began = time.monotonic()
    blocks = []
    running = stream(
        arguments,
        doing=doing,
        deadline_s=deadline_s,
        stall_s=stall_s,
        feed=feed,
        check=check,
        cwd=cwd,
        hint=hint,
    )
    with contextlib.closing(running):
        while True:
            try:
                blocks.append(next(running))
            except StopIteration as end:
                return Finished(b"".join(blocks), end.value, time.monotonic() - began)


def stream(
    arguments: Sequence[str],
    *,
    doing: str,
    deadline_s: float,
    stall_s: float | None = None,
    feed: Iterable[bytes | memoryview] | None = None,
    check: Check | None = None,
    cwd: Path | None = None,
    hint: str = OTHER_HINT,
) -> Generator[bytes, None, str]:
    """Run ffmpeg, yield its standard output in blocks as they come, return its standard error.

    Closing the generator early ends ffmpeg.

    Args:
        arguments: what follows the program's name.
        doing: completes the sentence "ffmpeg could not ..." in errors, input named.
        deadline_s: wall-clock seconds ffmpeg may keep us waiting in all. The time that ``feed``
            takes to make a buffer, or the consumer to use a block, is not ffmpeg's and not counted.
        stall_s: likewise for every single wait: for a buffer to be taken, a block to come, the end.
        feed: buffers for standard input, each asked for only when the last has been taken in full,
            so one array may be filled again and again. What it raises is passed on.
        check: called before every buffer and block, and every 50 ms while waiting.
        cwd: folder to run in; the caller's where None.
        hint: what the user should do where ffmpeg fails.

    Raises:
        DiskFull: ffmpeg had no room to write.
        MediaFailed: it cannot be started, failed, ran past a deadline, or stopped reading early.
    """
    with message_file() as messages:
        source = iter(() if feed is None else feed)
        child = _Child(arguments, doing, messages, feeding=feed is not None, cwd=cwd)
        try:
            yield from _converse(child, source, _Patience(doing, deadline_s, stall_s, check))
        finally:
            child.end()
        text = read(messages)
        child.judge(text, hint)
        return text


def _converse(
    child: _Child, source: Iterator[bytes | memoryview], patience: _Patience
) -> Iterator[bytes]:
    """Answer what the threads report until ffmpeg has ended."""
    while True:
        event = patience.wait(child.events.get, queue.Empty)
        if event is _Event.OUTPUT_OVER:
            child.feed_no_more()
            patience.wait(child.process.wait, subprocess.TimeoutExpired)
            return
        if event is _Event.HUNGRY:
            buffer = next(source, None)
            if buffer is None:
                child.feed_no_more(all_fed=True)
            else:
                child.feed(buffer)
        else:
            assert isinstance(event, bytes)
            yield event
            child.block_used()


class _Event(Enum):
    """What the two threads tell the caller's; a block of output comes as the bytes themselves."""

    HUNGRY = "standard input wants a buffer"
    OUTPUT_OVER = "standard output was closed: ffmpeg has ended, or is about to"


class _Wait(Protocol[T_co]):
    def __call__(self, *, timeout: float) -> T_co: ...


class _Patience:
    """Waits in small steps, so that deadlines hold and cancellation is heard."""

    def __init__(
        self, doing: str, deadline_s: float, stall_s: float | None, check: Check | None
    ) -> None:
        self._doing = doing
        self._deadline = deadline_s
        self._stall = deadline_s if stall_s is None else stall_s
        self._check = check
        self._spent = 0.0

    def wait(self, get: _Wait[T_co], not_yet: type[Exception]) -> T_co:
        """What ``get`` returns; it raises ``not_yet`` where its timeout is over."""
        began = time.monotonic()
        while True:
            if self._check is not None:
                self._check()
            waited = time.monotonic() - began
            if self._spent + waited > self._deadline:
                raise self._too_slow(f"took longer than the {self._deadline:g} s it may take")
            if waited > self._stall:
                raise self._too_slow(f"did not move for {self._stall:g} s")
            with contextlib.suppress(not_yet):
                result = get(timeout=_POLL_S)
                self._spent += time.monotonic() - began
                return result

    def _too_slow(self, what: str) -> MediaFailed:
        return MediaFailed(
            f"ffmpeg could not {self._doing}: it {what}, and was ended",
            hint="Look for a machine out of memory or a slow disk, then try again.",
        )


class _Child:
    """One ffmpeg, its process group, and the threads at its pipes.

    The process is reaped only after its standard output was closed or its group killed: until then
    the group's number is surely its own.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        doing: str,
        messages: IO[bytes],
        *,
        feeding: bool,
        cwd: Path | None,
    ) -> None:
        self.events: queue.SimpleQueue[bytes | _Event] = queue.SimpleQueue()
        self._doing = doing
        self._orders: queue.SimpleQueue[bytes | memoryview | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_BLOCKS_AHEAD)
        self._all_fed = not feeding
        self._pipe_broke = False
        self._ended = False
        binary = executable()
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603
                [str(binary), *arguments],
                stdin=subprocess.PIPE if feeding else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
                bufsize=0,
                cwd=cwd,
                env=_environment(),
                **_own_group(),
            )
        except (OSError, ValueError) as error:
            raise MediaFailed(
                f"{binary} cannot be started: {error}", hint=REINSTALL_HINT
            ) from error
        jobs = [self._read_output] + ([self._write_input] if feeding else [])
        self._threads = [threading.Thread(target=job, name="ffmpeg", daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def feed(self, buffer: bytes | memoryview) -> None:
        """Have ``buffer`` written to standard input."""
        self._orders.put(buffer)

    def feed_no_more(self, *, all_fed: bool = False) -> None:
        """Have standard input closed. Without effect where it is closed already."""
        self._all_fed = self._all_fed or all_fed
        self._orders.put(None)

    def block_used(self) -> None:
        """Let the reader fetch another block."""
        self._room.release()

    def end(self) -> None:
        """Whatever still runs is killed and waited for; the threads go home."""
        self._ended = True
        if self.process.returncode is None:
            _kill_group(self.process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=10)
        self._orders.put(None)
        self._room.release()
        for thread in self._threads:
            thread.join(timeout=5)

    def judge(self, messages: str, hint: str) -> None:
        """Raise unless ffmpeg ended well and took all it was offered. To be called after ``end``."""
        status = self.process.returncode
        if status == 0 and self._all_fed and not self._pipe_broke:
            return
        if status == 0:
            how = "it stopped reading before the last frame"
        elif status < 0:
            how = f"it was killed by signal {-status}"
        else:
            how = f"exit status {status}"
        said = complaints(messages)
        message = f"ffmpeg could not {self._doing} ({how})" + (f": {said}" if said else "")
        if is_no_room(said) or _outgrew_limit(status):
            raise DiskFull(message, hint=FULL_HINT)
        raise MediaFailed(message, hint=hint)

    def _write_input(self) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        try:
            while True:
                self.events.put(_Event.HUNGRY)
                buffer = self._orders.get()
                if buffer is None:
                    return
                left = memoryview(buffer).cast("B")
                while left:
                    left = left[os.write(pipe.fileno(), left) :]
        except OSError:
            self._pipe_broke = True  # ffmpeg is gone; its messages tell why
        finally:
            with contextlib.suppress(OSError):
                pipe.close()

    def _read_output(self) -> None:
        pipe = self.process.stdout
        assert pipe is not None
        with pipe, contextlib.suppress(OSError):
            while not self._ended and (block := os.read(pipe.fileno(), _BLOCK)):
                self._room.acquire()
                self.events.put(block)
        self.events.put(_Event.OUTPUT_OVER)


def _environment() -> dict[str, str]:
    """Ours, without what makes ffmpeg write a log file of its own."""
    inherited = {name: value for name, value in os.environ.items() if name != "FFREPORT"}
    return {**inherited, "AV_LOG_FORCE_NOCOLOR": "1"}


def _own_group() -> dict[str, Any]:
    """Arguments of Popen that put the child in a process group of its own.

    So Ctrl-C reaches us alone, and what a wrapper script starts can be killed with it.
    """
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that was not reaped yet, on POSIX with all of its group."""
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _outgrew_limit(status: int) -> bool:
    """Whether the system ended the process for writing past the limit on the size of files."""
    return sys.platform != "win32" and status == -signal.SIGXFSZ
