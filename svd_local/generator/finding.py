"""A clip that was made before, brought to where it is wanted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.result import Clip, Correction

if TYPE_CHECKING:
    from svd_local.catalog import Catalog


def find(
    catalog: Catalog,
    fingerprint: str,
    folder: Path,
    stem: str | None,
    corrections: tuple[Correction, ...],
) -> Clip | None:
    """The clip ``catalog`` has for ``fingerprint``, brought into ``folder``, named ``stem``; None
    where it has none.

    Raises:
        InvalidRequest: ``stem`` is no plain file name.
        StorageFailed: the catalog cannot be read, or the folder not be written.
    """
    from svd_local.storage import link_or_copy

    stored = catalog.find(fingerprint)
    if stored is None:
        return None
    clip = stored.to_clip()
    if stem is not None or clip.path.parent != folder.absolute():
        files = link_or_copy(clip.files, folder, stem=stem)
        clip = dataclasses.replace(clip, files=files, path=files.video or clip.path)
    return dataclasses.replace(clip, corrections=corrections, cached=True)
