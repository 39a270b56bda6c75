"""CSV: commas, semicolons or tabs, with a header that names the columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from svd_local.batch.columns import KNOWN, canonical
from svd_local.batch.source.base import MAX_CELL, NUL, NUL_HINT, RawRow, holds_nul
from svd_local.batch.source.text import Lines, LineTooLong
from svd_local.errors import InvalidRequest

_DELIMITERS = ",;\t"
_DECIMAL = ("duration", "noise", "guidance")
_COMMA = re.compile(r"(?<=\d),(?=\d)")
_HINT = "The first line names the columns, for example: title,prompt,image"
_OPEN_QUOTE = "Look for a quotation mark that is never closed; what follows could not be read."


class CsvSource:
    """A CSV file, read as it streams by.

    Cells are trimmed, and an empty one means "not given". Where semicolons or tabs separate, numbers
    may have a decimal comma, as spreadsheets write them there.

    Raises:
        InvalidRequest: the header is missing, or names a column twice.
    """

    kind = "csv"

    def __init__(self, path: Path, encoding: str) -> None:
        self._path, self._encoding = path, encoding
        self.defaults: Mapping[str, Any] = {}
        self.notes: tuple[str, ...] = ()
        self._delimiter = ","
        with self._open() as file:
            lines = Lines(file)
            header = self._header(lines)
            self._begin = lines.number
        while header and not header[-1]:
            header.pop()
        self._names = header
        self.columns = {name: self._begin for name in header if name}

    def rows(self) -> Iterator[RawRow]:
        with self._open() as file:
            lines = Lines(file)
            while lines.number < self._begin:
                next(lines)
            reader = self._reader(lines)
            while True:
                number = lines.number + 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except (csv.Error, LineTooLong) as error:
                    row = _unread(error, number, lines.number)
                    yield row
                    if row.last:
                        return
                    reader = self._reader(lines)
                    continue
                if any(cell and not cell.isspace() for cell in cells):
                    yield self._row(number, cells)

    def _open(self) -> Any:
        return self._path.open(encoding=self._encoding, newline="")

    def _reader(self, lines: Lines) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def _row(self, number: int, cells: list[str]) -> RawRow:
        names = self._names
        while len(cells) > len(names) and not cells[-1].strip():
            cells.pop()
        if len(cells) != len(names):
            if any(NUL in cell for cell in cells):  # what cut the row short, or is in its way
                return holds_nul(number, None, self._delimiter.join(cells))
            return RawRow(
                number,
                reason=f"{_cells(len(cells))} for {_cells(len(names), 'column')}",
                hint=f"Put a text that holds {_NAMES[self._delimiter]} between quotation marks."
                if len(cells) > len(names)
                else "Write a separator for every column, also where its cell is empty.",
            )
        values: dict[str, Any] = {}
        for name, cell in zip(names, cells, strict=True):
            text = cell.strip()
            if not text:
                continue
            if not name:
                return RawRow(
                    number,
                    reason=f"{text[:40]!r} stands in a column that has no name",
                    hint="Name the column in the first line, or remove it.",
                )
            if NUL in text:
                return holds_nul(number, name, text)
            if len(text) > MAX_CELL:
                return _too_large(number, name)
            if self._delimiter != "," and name in _DECIMAL:
                text = _COMMA.sub(".", text)
            values[name] = text
        return RawRow(number, values)

    def _header(self, lines: Lines) -> list[str]:
        """The canonical column names; the delimiter is found out on the way."""
        try:
            first = next((line for line in lines if line.strip()), "")
            told = re.fullmatch(r"sep=(.)\s*", first)  # what Excel writes and reads
            if told is not None:
                first = next((line for line in lines if line.strip()), "")
            choices = told[1] if told is not None else _DELIMITERS
            read = [(_split(first, one), one) for one in choices]
        except (csv.Error, LineTooLong) as error:
            raise InvalidRequest(
                f"the first line cannot be read as column names: {str(error) or 'it is too long'}",
                hint=_HINT,
                field="manifest",
            ) from None
        header, self._delimiter = max(read, key=lambda one: (len(KNOWN & set(one[0])), len(one[0])))
        if NUL in first:
            raise InvalidRequest(
                f"line {lines.number}: a column's name holds a NUL", hint=NUL_HINT, field="manifest"
            )
        if not any(header):
            raise InvalidRequest("the manifest is empty", hint=_HINT, field="manifest")
        twice = {name for name in header if name and header.count(name) > 1}
        if twice:
            name = min(twice, key=header.index)
            places = [str(n) for n, one in enumerate(header, 1) if one == name]
            raise InvalidRequest(
                f"columns {' and '.join(places)} are both named {name}",
                hint="Rename or remove one of them.",
                field=name,
            )
        return header


def _split(first: str, delimiter: str) -> list[str]:
    cells = next(csv.reader([first], delimiter=delimiter, strict=True), [])
    return [canonical(cell) for cell in cells]


_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


def _cells(count: int, what: str = "cell") -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _too_large(number: int, column: str | None, *, last: bool = False) -> RawRow:
    return RawRow(
        number,
        column=column,
        reason=f"a cell holds more than {MAX_CELL:,} characters",
        hint=_OPEN_QUOTE if last else "A prompt has at most 2,000. Pictures are given by path.",
        last=last,
    )


def _unread(error: Exception, number: int, reached: int) -> RawRow:
    """A row that could not be read; the last one where it went over several lines."""
    last = reached > number
    if isinstance(error, LineTooLong) or "field limit" in str(error):
        return _too_large(number, None, last=last)
    if "unexpected end" in str(error):
        return RawRow(
            number, reason="a quotation mark is never closed", hint=_OPEN_QUOTE, last=True
        )
    return RawRow(
        number,
        reason=f"it is no CSV: {error}",
        hint='Inside quotation marks write them twice: "a ""quoted"" word".',
        last=last,
    )
