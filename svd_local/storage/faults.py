"""What the system says when storing fails, in our words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svd_local.errors import DiskFull, StorageFailed

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No room on the device, in the user's quota, or below the limit on a file's size."""

_HINTS = {
    errno.EACCES: "Choose a folder you may write to, with --out or SVD_LOCAL_MEDIA_DIR.",
    errno.EPERM: "Choose a folder you may write to, with --out or SVD_LOCAL_MEDIA_DIR.",
    errno.EROFS: "The file system is mounted read-only; choose another folder.",
    errno.ENOTDIR: "A part of the path is a file; choose a folder.",
    errno.EEXIST: "A file of that name is in the way; choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter path.",
}
_HINT = "Check the folder and the device it is on."


def failure(error: OSError, folder: Path, field: str | None = None) -> StorageFailed:
    """The error to raise for ``error``, which came up while storing into ``folder``."""
    if error.errno in FULL:
        return DiskFull(
            f"no room left to write into {folder}: {error.strerror}",
            hint="Free some space, or choose a folder on another device.",
            field=field,
        )
    return StorageFailed(
        f"cannot write into {folder}: {error.strerror or error}",
        hint=_HINTS.get(error.errno or 0, _HINT),
        field=field,
    )


@contextmanager
def storing(folder: Path, field: str | None = None) -> Iterator[None]:
    """Within it, an ``OSError`` becomes ``StorageFailed`` or ``DiskFull``, naming ``folder``."""
    try:
        yield
    except OSError as error:
        raise failure(error, folder, field) from error
