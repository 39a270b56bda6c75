"""A folder of pictures: a clip each, in natural order."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from svd_local.batch.source.base import RawRow
from svd_local.errors import InvalidRequest

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
STEM = "stem"
"""Column with the file's name without its suffix, for templates."""
_DIGITS = re.compile(r"(\d+)")


class FolderSource:
    """The pictures right in a folder; hidden files and folders in it are passed over.

    Raises:
        InvalidRequest: it cannot be listed.
    """

    kind = "folder"

    def __init__(self, path: Path) -> None:
        self.defaults: Mapping[str, Any] = {}
        self.columns: Mapping[str, int] = {"image": 0, STEM: 0}
        try:
            with os.scandir(path) as entries:
                files = [entry.name for entry in entries if not entry.is_dir()]
        except OSError as error:
            raise InvalidRequest(
                f"the folder {path} cannot be read: {error.strerror}",
                hint="Check its permissions.",
                field="manifest",
            ) from error
        seen = [name for name in files if not name.startswith(".")]
        self._names = sorted(
            (name for name in seen if name.lower().endswith(SUFFIXES)), key=natural_order
        )
        others = len(seen) - len(self._names)
        told = (
            "1 file that is no picture was"
            if others == 1
            else f"{others} files that are no pictures were"
        )
        self.notes = (f"{told} passed over",) if others else ()

    def rows(self) -> Iterator[RawRow]:
        for number, name in enumerate(self._names, 1):
            values = {"image": name, STEM: Path(name).stem}
            yield RawRow(number, values, picture=readable(name))


def readable(name: str) -> str:
    """A file's name with escapes for bytes that are no UTF-8, and for what cannot be printed."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def natural_order(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """A key that sorts ``page 9`` before ``page 10``, whatever the case."""
    parts = _DIGITS.split(name.casefold())
    return [
        (0, int(part), "") if n % 2 else (1, 0, part) for n, part in enumerate(parts) if part
    ], name
