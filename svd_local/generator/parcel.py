"""A finished clip as one value: made on one machine, published on another.

The maker's files are its own affair; what is published is written, flushed, moved and entered in the
catalog by the receiver, by the same code that publishes its own clips.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from svd_local.errors import StorageFailed
from svd_local.generator.delivery import Delivery
from svd_local.request import ClipRequest
from svd_local.result import Clip, Files

if TYPE_CHECKING:
    from svd_local.catalog import Catalog

_SUFFIXES = (".json", ".jpg", ".mp4")
"""In the order they are published."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A clip and the contents of its files, by suffix, with their SHA-256 in hex."""

    clip: Clip
    """As its maker knows it; its places mean nothing elsewhere."""
    contents: Mapping[str, bytes]
    digests: Mapping[str, str]


def pack(clip: Clip) -> Parcel:
    """Read a published clip's files into a parcel.

    Raises:
        OSError: one cannot be read.
    """
    files = (clip.files.manifest, clip.files.poster, clip.files.video)
    contents = {path.suffix: path.read_bytes() for path in files if path is not None}
    digests = {suffix: _digest(content) for suffix, content in contents.items()}
    plain = dataclasses.replace(clip, path=Path(clip.path.name), files=Files(), id=None)
    return Parcel(plain, contents, digests)


def publish_parcel(
    parcel: Parcel, request: ClipRequest, folder: Path, delivery: Delivery, catalog: Catalog
) -> Clip:
    """Publish the clip of a parcel into ``folder``: files first, the row second.

    Raises:
        InvalidRequest: the delivery's stem is no plain file name.
        StorageFailed: the parcel was damaged on its way, or files or row could not be stored.
        Exception: whatever the delivery's ``commit`` raises.
    """
    from svd_local.generator.finish import publish_staged
    from svd_local.storage import Staging

    for suffix, content in parcel.contents.items():
        if _digest(content) != parcel.digests[suffix]:
            raise StorageFailed(
                f"the clip's {suffix} file was damaged on its way here",
                hint="It is tried again; if that happens often, look at the machines' memory.",
            )
    suffixes = [suffix for suffix in _SUFFIXES if suffix in parcel.contents]
    with Staging(folder) as staging:
        for suffix in suffixes:
            staging.write(suffix, parcel.contents[suffix])
        described = request.describe()
        return publish_staged(staging, suffixes, parcel.clip, described, delivery, catalog)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
