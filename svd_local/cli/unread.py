"""Standard error that nobody may be left to read."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, cast


def let_go_unread() -> None:
    """Have what is said on standard error be lost where it cannot be written, instead of ending the work.

    A batch outlives the terminal it was begun in: when that is closed its clips at hand are finished,
    and every line about them would be an ``OSError``. Likewise where it was begun without any.
    """
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for good
    elif not isinstance(sys.stderr, _Unread):
        sys.stderr = cast("TextIO", _Unread(sys.stderr))


class _Unread:
    """A stream whose failures to write are nobody's concern."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()
