"""What every writer of media files shares: the operating system's errors in our words, tidying up."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from svd_local.errors import DiskFull, StorageFailed

FULL_HINT = "Free some space, or choose a folder with more room: --out, or SVD_LOCAL_MEDIA_DIR."
_TEMPORARY_HINT = "Free some space there, or set TMPDIR to a folder with more room."
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# A quota and a limit on the size of files are the same to the user: no room where they write.


def storage_error(error: OSError, path: Path) -> StorageFailed:
    """``error``, met while ``path`` was written, as one of ours."""
    reason = error.strerror or str(error)
    if error.errno in _NO_ROOM:
        return DiskFull(f"{path} could not be written: {reason}", hint=FULL_HINT)
    return StorageFailed(
        f"{path} could not be written: {reason}",
        hint="Check that the folder exists and that this user may write to it.",
    )


def discard(path: Path) -> None:
    """Remove the half-written ``path``. What is no ordinary file, as a device, is left alone."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()


def check_temporary_room(room: int) -> None:
    """See that ``room`` bytes can be written where temporary files go.

    Raises:
        DiskFull: there is less.
        StorageFailed: nothing can be written there, or there is no such place.
    """
    try:
        with tempfile.TemporaryFile(prefix="svd_local-") as file:
            if hasattr(os, "posix_fallocate"):  # also a quota has its say
                os.posix_fallocate(file.fileno(), 0, room)
    except OSError as error:
        raise temporary_error(error) from error


def temporary_error(error: OSError) -> StorageFailed:
    """``error``, met where temporary files go, as one of ours."""
    kind = type(storage_error(error, Path()))
    try:
        place = tempfile.gettempdir()
    except OSError:
        place = "a folder for temporary files"
    hint = _TEMPORARY_HINT if kind is DiskFull else "Set TMPDIR to a folder that can be written."
    return kind(f"{place} could not be written: {error.strerror or error}", hint=hint)


@contextlib.contextmanager
def working_folder(beside: Path | None = None) -> Iterator[Path]:
    """An empty folder, gone with all it holds when the block is left.

    It lies ``beside`` a file that is being made, so that whatever clears up after a process that was
    killed takes both; else where the system keeps temporary files.

    Raises:
        StorageFailed: there is no room for one.
    """
    try:
        place = None if beside is None else beside.absolute().parent
        folder = tempfile.TemporaryDirectory(prefix="svd_local-", dir=place)
    except OSError as error:
        if beside is None:
            raise temporary_error(error) from error
        raise storage_error(error, beside) from error
    with folder as path:
        yield Path(path)


def write(path: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        DiskFull: no room for it.
        StorageFailed: it cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise storage_error(error, path) from error
