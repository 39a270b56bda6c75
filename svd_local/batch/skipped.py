"""The rows that were left out as bad: told in the evening, and kept with the batch for the morning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from svd_local.batch.counting import counted
from svd_local.batch.problems import Problem
from svd_local.catalog.jobs import Batch

MAX_KEPT = 200
"""Problems that are kept; of more, how many there are. The dry run's ``--json`` has all of them."""
_NUMBERED = 10
"""Rows that a line names by their number."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Bad rows of a manifest, which a batch goes without."""

    rows: int
    problems: tuple[Problem, ...]
    """What is wrong with them, in their order; the first ``MAX_KEPT`` where there are more."""
    more: int = 0
    """Problems that are not among these."""

    @classmethod
    def of(cls, rows: int, problems: Sequence[Problem]) -> Skipped | None:
        """So many ``rows`` with all their ``problems``; None where there are none."""
        kept = tuple(map(_storable, problems[:MAX_KEPT]))
        return cls(rows, kept, len(problems) - len(kept)) if rows else None

    @classmethod
    def by(cls, batch: Batch) -> Skipped | None:
        """What the last command of ``batch`` left out; None where that was nothing."""
        return None if batch.skipped is None else cls.parse(batch.skipped)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Skipped:
        """What ``to_json`` made."""
        problems = tuple(Problem(**one) for one in document["problems"])
        return cls(document["rows"], problems, document["more"])

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "problems": [problem.to_json() for problem in self.problems],
            "more": self.more,
        }

    @property
    def by_row(self) -> list[list[Problem]]:
        """The kept problems, those of one row together."""
        rows: dict[int, list[Problem]] = {}
        for problem in self.problems:
            rows.setdefault(problem.row, []).append(problem)
        return list(rows.values())

    def __str__(self) -> str:
        """All of it in a line: how many, and which."""
        numbers = [str(problems[0].row) for problems in self.by_row[:_NUMBERED]]
        others = self.rows - len(numbers)
        which = ", ".join(numbers) + (f" and {others:,} more" if others else "")
        be = "was" if self.rows == 1 else "were"
        return f"{counted(self.rows, 'row')} of the manifest {be} left out as bad: {which}"


def _storable(problem: Problem) -> Problem:
    """The same, with escapes for halves of letters: no database and no message between processes has them."""

    def whole(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode()

    return dataclasses.replace(
        problem,
        field=None if problem.field is None else whole(problem.field),
        reason=whole(problem.reason),
        hint=whole(problem.hint),
    )
