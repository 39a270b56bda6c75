"""``${column}`` in a row's texts and paths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from svd_local.batch.columns import TEMPLATED, canonical, did_you_mean
from svd_local.batch.problems import Problem

MARK = "${"
_PATTERN = re.compile(r"\$\$\{|\$\{(?P<name>[^${}:\n]*)(?P<else>:-[^{}]*)?\}|\$\{")


class Filling:
    """The fields of one row, their templates filled in from its columns.

    ``${column}`` is replaced by the row's value of that column, a field's own templates filled in
    first; ``${column:-text}`` by the text where the row gives none; ``$${`` stands for ``${``. What
    is put in is never looked through for templates.
    """

    def __init__(self, row: int, values: Mapping[str, Any]) -> None:
        self._row = row
        self._values = values
        self._filled: dict[str, Any] = {}
        self._open: list[str] = []
        self.used: set[str] = set()
        """Columns that templates named."""
        self.problems: list[Problem] = []

    def fill(self) -> dict[str, Any]:
        """Every value, filled in. A field with a problem is left out."""
        filled = dict(self._values)
        for name in TEMPLATED:
            if name in filled and _has_template(filled[name]):
                value = self._field(name)
                if value is None:
                    del filled[name]
                else:
                    filled[name] = value
        return filled

    def _field(self, name: str) -> Any:
        """A templated field's value; None where it cannot be filled in."""
        if name not in self._filled:
            value = self._values[name]
            before = len(self.problems)
            self._open.append(name)
            if isinstance(value, str):
                value = self._text(name, value)
            else:
                value = [self._text(name, v) if isinstance(v, str) else v for v in value]
            self._open.pop()
            self._filled[name] = value if len(self.problems) == before else None
        return self._filled[name]

    def _text(self, field: str, text: str) -> str:
        return _PATTERN.sub(lambda match: self._replacement(field, match), text)

    def _replacement(self, field: str, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return MARK
        if match["name"] is None:
            self._wrong(field, "${ without a column and }", "Write ${column}, or $${ for ${.")
            return ""
        name = canonical(match["name"])
        self.used.add(name)
        otherwise = match["else"]
        value = self._values.get(name)
        if value is None and otherwise is not None:
            return otherwise.removeprefix(":-")
        if value is None:
            others = [other for other in self._values if other != field]
            written = match["name"].strip()
            self._wrong(
                field,
                f"{match[0][:60]}: this row gives no {written[:60] or 'such column'}",
                f"{did_you_mean(name, others)} {MARK}{written}:-text}} says what to write instead.",
            )
            return ""
        if name in TEMPLATED and _has_template(value):
            if name in self._open:
                self._wrong(field, f"{match[0]} leads back to itself", "Name another column.")
                return ""
            value = self._field(name)
        if isinstance(value, (dict, list)):
            self._wrong(field, f"{match[0]} is no single value", "Name another column.")
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value or "")

    def _wrong(self, field: str, reason: str, hint: str) -> None:
        self.problems.append(Problem(self._row, field, reason, hint))


def _has_template(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, str) and MARK in item for item in value)
    return isinstance(value, str) and MARK in value
