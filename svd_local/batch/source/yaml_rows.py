"""YAML: ``defaults:`` and ``jobs:``, or a list of jobs, up to 5,000 of them.

Nothing is constructed but texts, lists and mappings: what a value means is decided by the field it
stands in, so that neither ``title: 2024-01-01`` nor ``guidance: 1:3`` turns into something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from svd_local.batch.source.base import NUL, NUL_HINT, RawRow
from svd_local.batch.source.json_rows import DEFAULTS, flattened
from svd_local.errors import InvalidRequest

MAX_ROWS = 5_000
MAX_BYTES = 16_000_000
_MAX_NODES = 1_000_000
"""Values after every alias has been replaced by what it stands for."""
_MAX_DEPTH = 50
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + name for name in ("str", "int", "float", "bool", "null", "seq", "map")}
_NULLS = ("", "~", "null", "Null", "NULL")
_ADVICE = "Write it as JSON Lines or CSV, which may have any length."
_HINT = "Write jobs: and below it a list of jobs, each with its fields."


class YamlSource:
    """A YAML file, read as a whole. Row numbers are the lines where the jobs begin.

    Raises:
        InvalidRequest: no YAML, another structure, too many jobs, or aliases that multiply.
    """

    kind = "yaml"
    columns = None

    def __init__(self, path: Path, encoding: str) -> None:
        self.notes: tuple[str, ...] = ()
        self.defaults: Mapping[str, Any] = {}
        self._rows: tuple[RawRow, ...] = ()
        if path.stat().st_size > MAX_BYTES:
            raise _refused(f"larger than {MAX_BYTES // 10**6} MB", _ADVICE)
        root = _composed(path.read_text(encoding=encoding))
        if root is None:
            return
        jobs = root
        if root.id == "mapping":
            named = {str(key.value): node for key, node in root.value}
            unknown = [name for name in named if name not in (DEFAULTS, "jobs")]
            if unknown or "jobs" not in named:
                raise _refused(
                    f"at the top stands {unknown[0][:60] if unknown else 'no jobs'}", _HINT
                )
            jobs = named["jobs"]
            if DEFAULTS in named:
                self.defaults = _defaults(named[DEFAULTS])
        if jobs.id == "scalar" and jobs.value in _NULLS:
            return
        if jobs.id != "sequence":
            raise _refused("jobs is no list", _HINT)
        if len(jobs.value) > MAX_ROWS:
            raise _refused(f"{len(jobs.value):,} jobs, at most {MAX_ROWS:,} are taken", _ADVICE)
        self._rows = tuple(_row(node) for node in jobs.value)

    def rows(self) -> Iterator[RawRow]:
        return iter(self._rows)


def _composed(text: str) -> Any:
    """The document's tree of nodes, looked through for what could do harm; None where it is empty."""
    import yaml

    if NUL in text:
        raise _refused(
            f"line {text.count(chr(10), 0, text.index(NUL)) + 1}: it holds a NUL", NUL_HINT
        )
    # Plain resolving gives every scalar as the text it is written as.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        # Composing recurses, in C, where nesting without end is the end of the process.
        depth = 0
        for event in yaml.parse(text, loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                line = event.start_mark.line + 1
                raise _refused(f"line {line}: nested too deeply", _HINT)
        root = yaml.compose(text, loader)
    except yaml.YAMLError as error:
        what = str(getattr(error, "problem", None) or error).splitlines()[0]
        raise _refused(f"{_place(error)}no YAML: {what[:200]}", _HINT) from None
    if root is not None:
        _count(root, {})
    return root


def _count(node: Any, known: dict[int, int]) -> int:
    """Values below ``node`` with every alias followed; refuses what is too many or goes in circles."""
    if node.tag not in _PLAIN_TAGS:
        raise _refused(f"line {_line(node)}: the tag {node.tag[:60]} is not taken", "Remove it.")
    if id(node) in known:
        return known[id(node)]
    total = 1
    if node.id != "scalar":
        known[id(node)] = _MAX_NODES + 1  # what is met again before it is counted holds itself
        pairs = node.value if node.id == "mapping" else ((child,) for child in node.value)
        total += sum(_count(child, known) for pair in pairs for child in pair)
    if total > _MAX_NODES:
        raise _refused(f"line {_line(node)}: aliases that multiply or hold themselves", _ADVICE)
    known[id(node)] = total
    return total


def _row(node: Any) -> RawRow:
    number = _line(node)
    if node.id != "mapping":
        return RawRow(number, reason="no mapping of fields to values", hint=_HINT)
    try:
        return flattened(_mapping(node), number)
    except ValueError as error:
        return RawRow(number, reason=str(error), hint="Remove one of them.")


def _defaults(node: Any) -> Mapping[str, Any]:
    row = _row(node)
    if row.reason is not None:
        raise _refused(f"line {row.number}: defaults: {row.column or ''} {row.reason}", row.hint)
    return row.values


def _value(node: Any) -> Any:
    if node.id == "mapping":
        return _mapping(node)
    if node.id == "sequence":
        return [_value(item) for item in node.value]
    return None if not node.style and node.value in _NULLS else node.value


def _mapping(node: Any) -> dict[str, Any]:
    """A mapping; what ``<<`` merges in gives way to the mapping's own keys.

    Raises:
        ValueError: a key is no text or stands there twice.
    """
    own: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key, item in node.value:
        if key.id != "scalar":
            raise ValueError("a key that is no text")
        if key.value == "<<" and not key.style:
            for one in reversed(item.value if item.id == "sequence" else [item]):
                merged |= _mapping(one) if one.id == "mapping" else {}
        elif key.value in own:
            raise ValueError(f"{key.value[:60]} is given twice")
        else:
            own[key.value] = _value(item)
    return {**merged, **own}


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _place(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}: " if mark is not None else ""


def _refused(what: str, hint: str) -> InvalidRequest:
    return InvalidRequest(f"the manifest cannot be taken: {what}", hint=hint, field="manifest")
