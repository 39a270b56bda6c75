"""Files that may be written again, such as a report: each one whole, old or new, at every moment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from svd_local.storage.faults import storing
from svd_local.storage.staging import flush_folder


def replace_files(sources: Sequence[Path], folder: Path) -> list[Path]:
    """Move complete files of the same file system into ``folder``, over those of their names.

    In the order given: a page comes after what it links to. Answers where they are now.

    Raises:
        StorageFailed: one cannot be stored; those before it are.
        DiskFull: there is no room.
    """
    targets = [folder / source.name for source in sources]
    with storing(folder):
        for source in sources:
            with source.open("rb+") as file:
                os.fsync(file.fileno())
        for source, target in zip(sources, targets, strict=True):
            source.replace(target)
        flush_folder(folder)
    return targets
