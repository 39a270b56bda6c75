"""An actor's temporary media root on its node, gone with it; what killed ones left is swept."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from svd_local.storage import Lock, locked_folder

_PREFIX = "svd-local-ray-"
_LOCK = "lock"
_HALF_BORN_S = 60.0


class Home:
    """A folder among the node's temporary files, held by a lock for as long as this process lives.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, ground: Path | None = None) -> None:
        self._ground = ground or Path(tempfile.gettempdir())
        self.folder, self._lock = locked_folder(self._ground, _LOCK, prefix=_PREFIX)
        self._owner = self.folder.stat().st_uid
        _sweep(self._ground, self._owner)

    def close(self) -> None:
        """Remove it, and those of others that were killed meanwhile."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        _sweep(self._ground, self._owner)


def _sweep(ground: Path, owner: int) -> None:
    """Remove the homes of actors that were killed; other users' are left alone, and links."""
    for home in ground.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if home.is_symlink() or home.stat().st_uid != owner:
                continue
            if not (home / _LOCK).exists() and time.time() - home.stat().st_mtime < _HALF_BORN_S:
                continue  # its owner is about to lock it
            lock = Lock(home / _LOCK)
            try:
                if lock.certain:
                    shutil.rmtree(home, ignore_errors=True)
            finally:
                lock.release()
