"""What a manifest's columns may be called, and what a misspelled one may have meant."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable

from svd_local.request import ClipRequest

COUNT, PRIORITY, OUT = "count", "priority", "out"
FIELDS = frozenset(ClipRequest.model_fields) - {OUT}
"""Columns that are fields of the request. ``out`` is not: it counts from the batch's output folder."""
KNOWN = FIELDS | {COUNT, PRIORITY, OUT}
PATHS = ("image", "images", "logo")
"""Columns that hold paths of pictures."""
TEMPLATED = ("prompt", "title", "caption", *PATHS, "checkpoint", OUT)
"""Columns in whose text ``${column}`` is filled in."""
COMMENT = "#"
"""What the name of a column that nobody reads begins with."""

_MEANT = {
    "picture": "image",
    "photo": "image",
    "file": "image",
    "filename": "image",
    "path": "image",
    "pictures": "images",
    "text": "prompt",
    "words": "prompt",
    "description": "prompt",
    "name": "title",
    "heading": "title",
    "subtitle": "caption",
    "model": "checkpoint",
    "seconds": "duration",
    "folder": "out",
    "output": "out",
    "repeat": "count",
    "clips": "count",
}


@functools.lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """``name`` as columns are compared: case, and whether ``-``, ``_`` or a space, do not matter."""
    return "_".join(name.strip().casefold().replace("-", " ").replace("_", " ").split())


def did_you_mean(name: str, others: Iterable[str] = KNOWN) -> str:
    """A hint for a name that is not there."""
    choices = list(others)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.7)
    meant = close[0] if close else _MEANT.get(name)
    if meant in choices:
        return f"Did you mean {meant}?"
    return f"There are {', '.join(sorted(choices)[:40])}." if choices else "There are none."


def unknown_column(name: str) -> tuple[str, str]:
    """Reason and hint for a column that is no field and that no template uses."""
    return (
        "no field of a clip goes by this name, and no template uses it",
        f"{did_you_mean(name)} To keep a column to yourself, begin its name with {COMMENT}.",
    )
