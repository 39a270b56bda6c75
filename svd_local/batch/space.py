"""Room on the disk: looked at before each clip, so that no night ends in half-written files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from svd_local.batch.events import Paused
from svd_local.errors import StorageFailed
from svd_local.request import format_bytes
from svd_local.storage import storing


def shortage(folders: Iterable[Path], reserve: int) -> Paused | None:
    """Why no clip should be begun: one of ``folders`` has less than ``reserve`` bytes free."""
    for folder in folders:
        ground = folder.absolute()
        while not ground.exists():
            ground = ground.parent
        try:
            with storing(folder):
                free = shutil.disk_usage(ground).free
        except StorageFailed as error:
            return Paused(error.message, error.hint, folder)
        if free < reserve:
            return Paused(
                f"{folder} has {format_bytes(free)} free, and {format_bytes(reserve)} are kept",
                "Free some space, and the batch goes on; or lower SVD_LOCAL_DISK_RESERVE.",
                folder,
            )
    return None
