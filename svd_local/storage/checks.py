"""Whether a folder can be written to, found out by doing it."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

from svd_local.errors import DiskFull
from svd_local.storage.faults import storing
from svd_local.storage.staging import PART_PREFIX, PART_SUFFIX


def check_writable(folder: Path, needed_bytes: int = 0, *, field: str | None = None) -> None:
    """Make sure, before any work is done, that files can be stored in ``folder``.

    Permission bits say little (the superuser passes them, read-only mounts ignore them), so a real
    file is written: in the folder, or, where it does not exist yet, in one of the same name below a
    hidden folder in its nearest existing parent. Nothing stays behind, not even the folder:
    ``Staging`` makes that.

    Raises:
        StorageFailed: it cannot be written to, or is no folder; ``field`` says who named it.
        DiskFull: fewer than ``needed_bytes`` are free.
    """
    folder = folder.absolute()
    with storing(folder, field):
        ground = folder
        while not ground.exists():
            ground = ground.parent
        if not ground.is_dir():
            raise OSError(errno.ENOTDIR, f"{ground} is a file")
        free = shutil.disk_usage(ground).free
        if free < needed_bytes:
            raise DiskFull(
                f"{folder} has {free:,} bytes free, and {needed_bytes:,} are needed",
                hint="Free some space, or choose a folder on another device.",
                field=field,
            )
        with tempfile.TemporaryDirectory(
            prefix=PART_PREFIX, suffix=PART_SUFFIX, dir=ground, ignore_cleanup_errors=True
        ) as trial:
            inside = Path(trial, folder.relative_to(ground))
            inside.mkdir(parents=True, exist_ok=True)
            Path(inside, "trial").write_bytes(b"\0" * 4096)
