"""File names: a prefix that says what the file is, and the moment it was published."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from svd_local.errors import InvalidRequest
from svd_local.result import Kind

_PREFIXES = ("sd_video", "image_sequence_video", "synthetic_video", "enhanced_placeholder")
_STEM = re.compile(rf"(?P<prefix>{'|'.join(_PREFIXES)})_(?P<stamp>\d{{8}}T\d{{9}})Z")

MAX_STEM_BYTES = 200
"""A name may have 255 bytes; the rest is for the suffix, a number, and the staging folder's affixes."""
_FORBIDDEN = '/\\:*?"<>|'
_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in "123456789"),
}


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


def wanted_stems(stem: str) -> Iterator[str]:
    """``stem`` itself, then ``<stem>_2``, ``<stem>_3`` and so on, endlessly; see ``check_stem``."""
    check_stem(stem)
    yield stem
    for number in itertools.count(2):
        yield f"{stem}_{number}"


def check_stem(stem: str) -> None:
    """Make sure that ``stem`` is a plain file name on every system, that leads nowhere else.

    Raises:
        InvalidRequest: it is not.
    """
    problem = None
    if not stem or stem != stem.strip() or stem.startswith(".") or stem.endswith("."):
        problem = "is empty, or begins or ends with a blank or a dot"
    elif any(character in _FORBIDDEN or not character.isprintable() for character in stem):
        problem = f"holds one of {_FORBIDDEN} or a control character"
    elif len(stem.encode(errors="replace")) > MAX_STEM_BYTES:
        problem = f"is longer than {MAX_STEM_BYTES} bytes"
    elif stem.partition(".")[0].upper() in _DEVICES:
        problem = "is the name of a device on Windows"
    if problem is not None:
        raise InvalidRequest(
            f"the file name {stem[:80]!r} {problem}",
            hint="Change what the name is made from: letters, digits, - and _ are always safe.",
            field="name",
        )


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
