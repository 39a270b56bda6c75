"""A lock file that tells whether its owner lives: the kernel lets go of it when the process dies.

Process ids would mislead where containers share a folder, since each counts its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from pathlib import Path

if sys.platform == "win32":

    def _hold(path: Path) -> int | None:
        path.touch()  # an open handle would keep Windows from renaming the folder
        return None

else:
    import fcntl

    _UNSUPPORTED = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.ENOLCK})

    def _hold(path: Path) -> int | None:
        """A handle that holds the lock; None where the file system has no such locks."""
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno in _UNSUPPORTED:
                return None
            raise
        if os.fstat(handle).st_nlink == 0:
            # Swept between the opening and the locking: this lock would be seen by nobody.
            os.close(handle)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return handle


def held(path: Path) -> bool | None:
    """Whether somebody holds ``path``; None where that cannot be told, as where it is not there."""
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        # Shared: two who look at once do not take each other for its owner.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False if os.fstat(handle).st_nlink else None
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)


class Lock:
    """Holds ``path``, made if missing, until released or until the process ends.

    Raises:
        BlockingIOError: somebody else holds it.
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._handle = _hold(path)

    @property
    def certain(self) -> bool:
        """False without such locks here: then nobody can tell whether an owner lives."""
        return self._handle is not None

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def locked_folder(ground: Path, name: str, *, prefix: str, suffix: str = "") -> tuple[Path, Lock]:
    """A new folder in ``ground`` with a lock file ``name`` in it, which is held.

    Raises:
        OSError: it cannot be made; nothing is left of it.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=ground))
        try:
            return folder, Lock(folder / name)
        except (FileNotFoundError, BlockingIOError):
            # Somebody took it for a dead one's, and looks at it or has swept it.
            shutil.rmtree(folder, ignore_errors=True)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
