"""Text files of any length: their encoding, and their lines, none of which may fill the memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from svd_local.errors import InvalidRequest

MAX_LINE = 1_000_000
"""Characters of a line."""
_CHUNK = 1 << 20
_HEAD = 1 << 12
_RARE = 50
"""A byte in so many is rare."""
_BEGINNING = 16
"""Bytes that are letters, commas or brackets in every manifest: eight of them in UTF-16."""
_ZIP = b"PK\x03\x04"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class LineTooLong(Exception):
    """A line is longer than ``MAX_LINE``; the reading can go on behind it."""


def encoding_of(path: Path, wanted: str | None = None) -> str:
    """The encoding to read ``path`` in: ``wanted``, what its first bytes say, or UTF-8.

    The whole file is decoded once, so that no row fails on it in the middle of the night.

    Raises:
        InvalidRequest: there is no such encoding, or the file is not in it; says where. Windows'
            encodings are not guessed: the letters could come out wrong, and they are drawn.
    """
    if wanted is not None:
        _require_known(wanted)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
            if wanted is None and marked is None:
                _require_text(path, head)
            encoding = wanted or marked or "utf-8"
            decoder = codecs.getincrementaldecoder(encoding)()
            file.seek(0)
            line = 1
            while chunk := file.read(_CHUNK):
                try:
                    decoder.decode(chunk)
                except UnicodeDecodeError as error:
                    # What was kept from the chunk before holds no line break.
                    line += error.object[: error.start].count(b"\n")
                    raise _undecodable(path, error, line, encoding, wanted) from None
                line += chunk.count(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _undecodable(path, error, line, encoding, wanted) from None
    return encoding


class Lines(Iterator[str]):
    """The lines of a text file, their ends kept. ``number`` is that of the line given last."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.number = 0

    def __next__(self) -> str:
        """The next line.

        Raises:
            LineTooLong: it is; it was passed over.
        """
        line = self._file.readline(MAX_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) <= MAX_LINE:
            return line
        while line and not line.endswith(("\n", "\r")):
            line = self._file.readline(MAX_LINE)
        raise LineTooLong


def _require_known(encoding: str) -> None:
    try:
        "a".encode(encoding)  # codecs that are known and make no text of bytes refuse here
    except (LookupError, UnicodeError):
        raise InvalidRequest(
            f"encoding: {encoding[:40]!r} is none that is known here",
            hint="Write for example windows-1252, iso-8859-2 or utf-16.",
            field="encoding",
        ) from None


def _require_text(path: Path, head: bytes) -> None:
    """Refuse what is another kind of file, and UTF-16 that does not say so: decoding may go well, and the
    text is full of zeros then.
    """
    if head.startswith(_ZIP):
        raise InvalidRequest(
            f"{path.name} is a ZIP archive, as Excel's and LibreOffice's own files are, and no text",
            hint="Open it there and save it as CSV UTF-8.",
            field="manifest",
        )
    encoding = _utf16_of(head[:_BEGINNING], 2) or _utf16_of(head, 4)
    if encoding is not None:
        raise InvalidRequest(
            f"{path.name} is not UTF-8: it has the zeros of {encoding.upper()}",
            hint=f"Save it as UTF-8, or name its encoding: --encoding {encoding}.",
            field="manifest",
        )


def _utf16_of(part: bytes, one_in: int) -> str | None:
    """Which UTF-16 ``part`` is by its zeros; None where they are no rule.

    One byte of each Latin letter, comma and line's end is zero, always the same one of two: at least
    every ``one_in``-th byte of all. A zero here and there is a NUL, which is a character of UTF-8.
    """
    high, low = part[1::2].count(0), part[::2].count(0)
    if max(high, low) < max(len(part) // one_in, 1) or min(high, low) * _RARE > len(part):
        return None
    return "utf-16-le" if high > low else "utf-16-be"


def _undecodable(
    path: Path, error: UnicodeDecodeError, line: int, encoding: str, wanted: str | None
) -> InvalidRequest:
    around = error.object[max(0, error.start - 12) : error.start + 12]
    shown = around.decode("cp1252", errors="replace").splitlines()
    word = next((part for part in shown if not part.isascii()), "").strip()
    guess = f" (as windows-1252 it would read {word!r})" if wanted is None and word else ""
    return InvalidRequest(
        f"{path.name}, line {line}: not {encoding.removesuffix('-sig').upper()}{guess}",
        hint="Save it as UTF-8 (in Excel: CSV UTF-8), or name its encoding: --encoding windows-1252."
        if wanted is None
        else "Leave --encoding out where it is UTF-8, or name the one it was saved in.",
        field="manifest" if wanted is None else "encoding",
    )
