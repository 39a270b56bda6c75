"""What the sources have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

MAX_CELL = 100_000
"""Characters of one value. The longest that means anything is a prompt of 2,000."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it was read: canonical column -> value, without what was not given.

    Where ``reason`` is set the row could not be read and ``values`` is empty; with ``last`` what
    follows it could not be told apart and was not read either.
    """

    number: int
    values: Mapping[str, Any] = field(default_factory=dict)
    column: str | None = None
    reason: str | None = None
    hint: str = ""
    last: bool = False


class Source(Protocol):
    """An opened manifest. Its rows can be read again and again."""

    @property
    def kind(self) -> str:
        """``csv``, ``jsonl``, ``yaml`` or ``folder``."""
        ...

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The header's, by canonical column."""
        ...

    @property
    def columns(self) -> Mapping[str, int] | None:
        """Where all rows have the same: canonical column -> the row that names it."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever wrote the manifest should know, and that is no error."""
        ...

    def rows(self) -> Iterator[RawRow]:
        """The rows, in their order. A row that cannot be read is one with a reason."""
        ...
