"""File names: a prefix that says what the file is, and the moment it was published."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from svd_local.result import Kind

_PREFIXES = ("sd_video", "image_sequence_video", "synthetic_video", "enhanced_placeholder")
_STEM = re.compile(rf"(?P<prefix>{'|'.join(_PREFIXES)})_(?P<stamp>\d{{8}}T\d{{9}})Z")


def file_prefix(kind: Kind, *, synthetic: bool = False) -> str:
    """The beginning of the file names of a result of ``kind``.

    ``synthetic`` marks what a tiny or synthetic checkpoint generated, so that it is never taken for
    a real video.
    """
    if kind == "placeholder":
        return "enhanced_placeholder"
    if kind == "animated-stills":
        return "image_sequence_video"
    return "synthetic_video" if synthetic else "sd_video"


def stems(prefix: str, at: datetime) -> Iterator[str]:
    """Names without suffix, best first: ``<prefix>_<at>``, then a millisecond later each, endlessly.

    ``at`` must know its time zone; names are in UTC.
    """
    moment = at.astimezone(UTC)
    while True:
        yield f"{prefix}_{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}Z"
        moment += timedelta(milliseconds=1)


def parse_stem(stem: str) -> tuple[str, datetime] | None:
    """Prefix and moment of a name that ``stems`` made; None for any other."""
    match = _STEM.fullmatch(stem)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match["stamp"] + "000+0000", "%Y%m%dT%H%M%S%f%z")
    except ValueError:
        return None
    return match["prefix"], moment
