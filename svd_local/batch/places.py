"""Where a manifest's paths lead: which folder they count from, and which they may not leave.

A manifest is often somebody else's. What it names is read from its own folder and below unless its
user allows more: a picture that is shown in a clip has left the machine with it.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from svd_local.batch.columns import PATHS
from svd_local.batch.filling import MARK
from svd_local.engine.checkpoints import looks_like_path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
SEPARATOR = "|"
"""Between the paths of one cell."""


class Misplaced(ValueError):
    """A path that leads where it may not; the second argument is the hint."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.reason, self.hint = reason, hint


@dataclass(frozen=True, slots=True)
class Ground:
    """The folder paths count from, and whether they may lead out of it."""

    folder: Path
    fenced: bool

    def place(self, text: str) -> str:
        """The absolute path of ``text``.

        Raises:
            Misplaced: it is empty, a URL, or leads out, by itself or through a link.
        """
        if not text.strip() or "\x00" in text:
            raise Misplaced("an empty path, or one with a NUL character", "Give a path.")
        if _URL.match(text):
            raise Misplaced(f"{text[:60]!r} is a URL", "Fetch the file, and give its path.")
        path = os.path.join(self.folder, os.path.expanduser(text))  # noqa: PTH111, PTH118 - fast
        within = os.path.normpath(path)
        if ".." in text or (self.fenced and not _inside(within, self.folder)):
            within = os.path.realpath(path)
        if self.fenced and not _inside(within, self.folder):
            raise Misplaced(
                f"{text[:120]!r} leads out of {self.folder}",
                "Put the file there, or add --allow-outside if the manifest may read anything.",
            )
        return within


def ground_of_option(text: str, folder: Path) -> tuple[Ground, str]:
    """What an option's path counts from, which is typed by the user and may be anywhere.

    Where a row's values go into it, they may not lead out of the folder written before them.
    """
    head, mark, rest = text.partition(MARK)
    if not mark:
        return Ground(folder, fenced=False), text
    base, slash, tail = head.rpartition("/")
    outer = os.path.join(folder, os.path.expanduser(base + slash))  # noqa: PTH111, PTH118
    return Ground(Path(os.path.normpath(outer)), fenced=True), tail + mark + rest


def split_paths(value: object) -> list[object]:
    """The paths of a cell or a list; whatever else is left for the request to refuse."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(SEPARATOR) if part.strip()]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def is_path(field: str, value: object) -> bool:
    """Whether the field's text is a path: pictures always, a checkpoint where it looks like one."""
    if not isinstance(value, str):
        return False
    return field in PATHS or (field == "checkpoint" and looks_like_path(value))


def _inside(path: str, folder: Path) -> bool:
    """Whether ``path``, links followed, is in ``folder``, links followed."""
    parent, name = os.path.split(path)
    real = os.path.join(_real(parent), name)  # noqa: PTH118
    if os.path.islink(real):  # noqa: PTH114
        real = os.path.realpath(real)
    return _below(real, _real(str(folder)))


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def forget_links() -> None:
    """Look at links anew from here on: what they lead to is remembered while many rows are read."""
    _real.cache_clear()


@functools.lru_cache(maxsize=1024)
def _real(folder: str) -> str:
    return os.path.realpath(folder)
