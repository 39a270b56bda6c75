"""Which workers live: each holds a lock file, which the kernel lets go of when its process dies.

Leases alone would do, but after ``kill -9`` the same command would wait for the dead one's to expire.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from svd_local.storage import Lock, held, storing

FOLDER = ".svd-workers"


def own_name() -> str:
    """A name for who asks, in this process on this machine, unlike any other's; fit for a file."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def lives(media_dir: Path, name: str | None) -> bool | None:
    """Whether the worker or command called ``name`` lives, by its sign of life below ``media_dir``; None
    where there is none, as of one on another machine. Nothing is changed by looking.
    """
    return None if name is None else held(media_dir.absolute() / FOLDER / name)


class Presence:
    """This worker's sign of life below ``media_dir``; a context manager.

    Raises:
        StorageFailed: the folder cannot be written.
    """

    def __init__(self, media_dir: Path) -> None:
        self._folder = media_dir.absolute() / FOLDER
        self.name = own_name()
        """The worker's name, unlike any other's."""
        self._lock: Lock | None = None

    def __enter__(self) -> Self:
        own = self._folder / self.name
        with storing(self._folder):
            # Whoever looks for dead workers may hold the file for a moment, or remove it as one's.
            while self._lock is None or not own.exists():
                if self._lock is not None:
                    self._lock.release()
                self._folder.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError, BlockingIOError):
                    self._lock = Lock(own)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            (self._folder / self.name).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.release()
        with suppress(OSError):
            self._folder.rmdir()

    def dead(self) -> Iterator[str]:
        """The names of workers that died here without a word; each is forgotten when the next is asked for."""
        with suppress(OSError):
            for path in sorted(self._folder.iterdir()):
                if path.name == self.name:
                    continue
                try:
                    lock = Lock(path)
                except OSError:
                    continue  # it lives
                try:
                    if lock.certain:
                        yield path.name
                        path.unlink(missing_ok=True)
                finally:
                    lock.release()
