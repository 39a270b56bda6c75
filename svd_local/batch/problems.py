"""What is wrong with a row, as a value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from svd_local.errors import SvdLocalError

_MOST = 80
"""Characters of a picture's name in a line for people."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one row; ``row`` counts as ``JobSpec.row`` does."""

    row: int
    field: str | None
    reason: str
    hint: str = ""
    picture: str | None = None
    """Where the manifest is a folder, the picture that makes the row: who looks there counts no rows."""

    @classmethod
    def of(cls, row: int, error: SvdLocalError) -> Problem:
        """The problem an error tells of, its field not said twice."""
        reason = error.message
        if error.field is not None:
            reason = reason.removeprefix(f"{error.field}: ")
        return cls(row, error.field, reason, error.hint)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        named = "" if self.picture is None else f" ({_shortened(self.picture)})"
        return f"row {self.row}{named}: {self.field + ': ' if self.field else ''}{self.reason}"


def _shortened(name: str) -> str:
    """A file's name with its beginning and its end, by which it is found."""
    return name if len(name) <= _MOST else f"{name[: _MOST - 21]}…{name[-20:]}"
