"""What is wrong with a row, as a value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from svd_local.errors import SvdLocalError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one row; ``row`` counts as ``JobSpec.row`` does."""

    row: int
    field: str | None
    reason: str
    hint: str = ""

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
        return f"row {self.row}: {self.field + ': ' if self.field else ''}{self.reason}"
