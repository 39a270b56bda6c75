"""JSON Lines: an object a line, the first one possibly ``{"defaults": {...}}``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from svd_local.batch.columns import canonical
from svd_local.batch.source.base import MAX_CELL, NUL, RawRow, holds_nul
from svd_local.batch.source.text import MAX_LINE, Lines, LineTooLong
from svd_local.errors import InvalidRequest

DEFAULTS = "defaults"
_HINT = 'Write one object a line, for example {"title": "Welcome", "image": "one.jpg"}.'


class JsonSource:
    """A JSON Lines file, read as it streams by. ``null`` means "not given".

    Raises:
        InvalidRequest: the file is one JSON document, or its header is none.
    """

    kind = "jsonl"
    columns = None

    def __init__(self, path: Path, encoding: str) -> None:
        self._path, self._encoding = path, encoding
        self.notes: tuple[str, ...] = ()
        self.defaults: Mapping[str, Any] = {}
        self._begin = 0
        with self._path.open(encoding=encoding) as file:
            lines = Lines(file)
            try:
                first = next((line for line in lines if line.strip()), "").strip()
            except LineTooLong:
                return
        if first.startswith("["):
            raise InvalidRequest(
                "the manifest is one JSON list, where every line should be an object of its own",
                hint="Rewrite it with: jq -c '.[]' old.json > new.jsonl",
                field="manifest",
            )
        row = _parsed(first, lines.number) if first else RawRow(0)
        if DEFAULTS in row.values:
            self._begin = lines.number
            self.defaults = _header(row)

    def rows(self) -> Iterator[RawRow]:
        with self._path.open(encoding=self._encoding) as file:
            lines = Lines(file)
            while True:
                try:
                    line = next(lines)
                except StopIteration:
                    return
                except LineTooLong:
                    yield RawRow(
                        lines.number,
                        reason=f"the line holds more than {MAX_LINE:,} characters",
                        hint="Pictures are given by path, and a prompt has at most 2,000.",
                    )
                    continue
                if lines.number > self._begin and not line.isspace():
                    yield _parsed(line, lines.number)


def flattened(value: Mapping[str, Any], number: int) -> RawRow:
    """A mapping as a row: canonical names, nothing that is null, no name twice."""
    values: dict[str, Any] = {}
    seen = set()
    for key, item in value.items():
        name = canonical(key)
        if name in seen:
            return RawRow(number, column=name, reason="given twice", hint="Remove one of them.")
        seen.add(name)
        if isinstance(item, str) and len(item) > MAX_CELL:
            return RawRow(
                number,
                column=name,
                reason=f"holds more than {MAX_CELL:,} characters",
                hint="Pictures are given by path, and a prompt has at most 2,000.",
            )
        if isinstance(item, str) and NUL in item:
            return holds_nul(number, name, item)
        if item is not None:
            values[name] = item
    return RawRow(number, values)


def _header(row: RawRow) -> Mapping[str, Any]:
    value = row.values[DEFAULTS]
    if len(row.values) > 1 or not isinstance(value, dict):
        raise InvalidRequest(
            f"line {row.number}: defaults stands alone in the first line, and holds an object",
            hint='Write {"defaults": {"quality": "fast"}} as the first line.',
            field=DEFAULTS,
        )
    defaults = flattened(value, row.number)
    if defaults.reason is not None:
        raise InvalidRequest(
            f"line {row.number}: {defaults.column}: {defaults.reason}",
            hint=defaults.hint,
            field=defaults.column,
        )
    return defaults.values


def _parsed(line: str, number: int) -> RawRow:
    if NUL in line:
        return holds_nul(number, None, line)
    try:
        value = json.loads(line, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        where = f"character {error.pos + 1}" if error.pos < len(line.rstrip()) else "its end"
        return RawRow(number, reason=f"no JSON: {error.msg}, at {where}", hint=_HINT)
    except (ValueError, RecursionError) as error:
        what = "too deep" if isinstance(error, RecursionError) else str(error)
        return RawRow(number, reason=f"no JSON: {what}", hint=_HINT)
    if not isinstance(value, dict):
        return RawRow(number, reason="no JSON object", hint=_HINT)
    return flattened(value, number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} is given twice")
    return values


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
