"""What the sources have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

MAX_CELL = 100_000
"""Characters of one value. The longest that means anything is a prompt of 2,000."""

NUL = "\x00"
_EMPTY = f"{NUL} \t\r\n"
NUL_HINT = "Remove it (a byte that is zero, which no text has), or save the file anew."
_CUT_SHORT_HINT = (
    "The file was cut short or damaged, as by a power failure, and what stood there is lost: remove them "
    "(bytes that are zero) and look whether a row is missing, or save the file anew."
)


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
    picture: str | None = None
    """In a folder, the picture's name as people can read it."""


def holds_nul(number: int, column: str | None, text: str) -> RawRow:
    """A row that cannot be read for a NUL in ``text``, which stands in ``column``."""
    kept = text.rstrip(_EMPTY)
    end, place = text.count(NUL, len(kept)), text.index(NUL) + 1
    reason, hint = f"a NUL as character {place}", NUL_HINT
    if end > 1:
        reason = f"{end:,} NULs at its end" if kept else f"nothing but {end:,} NULs"
        hint = _CUT_SHORT_HINT
    return RawRow(number, column=column, reason=reason, hint=hint)


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
