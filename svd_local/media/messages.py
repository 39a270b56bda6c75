"""What ffmpeg says on standard error: where it goes, and what of it is worth showing."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from svd_local.media.files import storage_error

_HEAD = 1 << 20
_TAIL = 2000
_TAIL_LINES = 6
_MARKS = re.compile(r"\[[^\[\]]* @ 0x[0-9a-f]+\] ?|\[(?:warning|error|fatal|panic)\] ?")
_CHATTER = re.compile(r"\[info\]|^\s+: |is deprecated")
_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded|File too large", re.IGNORECASE)


def is_no_room(complaints: str) -> bool:
    """Whether ffmpeg complained that it could not write any more."""
    return _NO_ROOM.search(complaints) is not None


@contextlib.contextmanager
def message_file() -> Iterator[IO[bytes]]:
    """A nameless file for standard error: it takes any amount, and is gone when closed."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (closed below; its user's errors are not ours)
    except OSError as error:
        raise storage_error(error, Path(tempfile.gettempdir())) from error
    with file:
        yield file


def read(messages: IO[bytes]) -> str:
    """The beginning and the end of what ffmpeg said; what is between may be endless."""
    messages.seek(0)
    text = messages.read(_HEAD)
    if len(text) == _HEAD:
        messages.seek(max(_HEAD, messages.seek(0, os.SEEK_END) - _TAIL))
        text += b"\n" + messages.read(_TAIL)
    return text.decode(errors="replace").strip()


def complaints(messages: str) -> str:
    """The last things ffmpeg said that are more than information, without its marks."""
    lines = (line for line in messages[-_TAIL:].splitlines() if not _CHATTER.search(line))
    return "; ".join(
        [_MARKS.sub("", line).strip() for line in lines if line.strip()][-_TAIL_LINES:]
    )
