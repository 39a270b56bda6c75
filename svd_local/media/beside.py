"""Encoding beside the making: frames go through a short queue to a thread that encodes them.

Whoever makes frames on a GPU must not wait for an encoder on the processor, nor run away from it: so
many bytes of frames may wait, and no more. The first error of either side ends both.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    import numpy as np

    Chunk = np.ndarray[Any, np.dtype[np.uint8]]

T = TypeVar("T")
Check = Callable[[], None]

AHEAD_BYTES = 128 * 2**20
"""Bytes of frames that may wait for the encoder. 25 frames of 1024x576 are 44 MB: such a clip never
waits, and a longer or larger one waits rather than fill the memory."""

_LOOK_UP_S = 0.05


class Beside(Generic[T]):
    """Runs ``consume`` on frames that are handed over one after the other; a context manager.

    Leaving the block without `result` ends ``consume`` and waits until it is gone.

    Args:
        consume: given the chunks and a check that raises where it is to stop; to be called often.
            Runs in a thread of its own, reads the chunks to their end and returns what `result` is.
        ahead_bytes: most bytes of chunks that wait or are being looked at; a single chunk may be larger.
    """

    def __init__(
        self, consume: Callable[[Iterator[Chunk], Check], T], *, ahead_bytes: int = AHEAD_BYTES
    ) -> None:
        self._consume = consume
        self._most = ahead_bytes
        self._moved = threading.Condition()
        self._waiting: deque[Chunk] = deque()
        self._bytes = 0
        self._all_put = self._unwanted = self._over = False
        self._values: list[T] = []
        self._error: BaseException | None = None
        self._idle_s = self._whole_s = 0.0
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._moved:
            self._unwanted = True
            self._moved.notify_all()
        self._thread.join()

    @property
    def busy_s(self) -> float:
        """Seconds ``consume`` took, those it waited for frames not counted; known after `result`."""
        return self._whole_s - self._idle_s

    def put(self, chunk: Chunk, check: Check) -> None:
        """Hand over the next frames, uint8 (n, height, width, 3), which are not to be changed any more.

        Waits while too much is waiting already.

        Raises:
            Exception: what ``consume`` raised, or ``check``, which is called while waiting.
        """
        while True:
            check()
            with self._moved:
                if self._over:
                    raise self._error or RuntimeError("not all frames were wanted")
                if not self._bytes or self._bytes + chunk.nbytes <= self._most:
                    self._waiting.append(chunk)
                    self._bytes += chunk.nbytes
                    self._moved.notify_all()
                    return
                self._moved.wait(_LOOK_UP_S)

    def result(self, check: Check) -> T:
        """There are no more frames: wait for the end of ``consume`` and return what it does.

        Raises:
            Exception: what ``consume`` raised, or ``check``, which is called while waiting.
        """
        with self._moved:
            self._all_put = True
            self._moved.notify_all()
        while True:
            check()
            with self._moved:
                if self._over:
                    break
                self._moved.wait(_LOOK_UP_S)
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._values[0]

    def _run(self) -> None:
        began = time.monotonic()
        try:
            with contextlib.closing(self._chunks()) as chunks:
                self._values.append(self._consume(chunks, self._check))
        except BaseException as error:  # noqa: BLE001 - handed to whoever puts frames
            self._error = error
        finally:
            with self._moved:
                self._whole_s = time.monotonic() - began
                self._over = True
                self._waiting.clear()
                self._moved.notify_all()

    def _chunks(self) -> Generator[Chunk]:
        while True:
            with self._moved:
                began = time.monotonic()
                while not (self._waiting or self._all_put or self._unwanted):
                    self._moved.wait()
                self._idle_s += time.monotonic() - began
                self._check()
                if not self._waiting:
                    return
                chunk = self._waiting.popleft()
            yield chunk
            with self._moved:
                self._bytes -= chunk.nbytes
                self._moved.notify_all()

    def _check(self) -> None:
        if self._unwanted:
            raise _Unwanted


class _Unwanted(Exception):
    """Ends ``consume`` where nobody wants its result any more; seen by nobody."""
