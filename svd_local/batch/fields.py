"""One row's fields: defaults merged, templates filled in, paths in their place, all of it checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svd_local.batch.columns import COMMENT, FIELDS, KNOWN, OUT, PATHS, unknown_column
from svd_local.batch.filling import MARK, Filling
from svd_local.batch.naming import OutputTemplate, safe_folder
from svd_local.batch.places import (
    Ground,
    Misplaced,
    ground_of_option,
    is_path,
    split_paths,
)
from svd_local.batch.problems import Problem
from svd_local.batch.source import RawRow
from svd_local.errors import InvalidRequest
from svd_local.request import ClipRequest

_TOP_SEED = 2**63
_NUMBER = re.compile(r"([+-]?\d{1,6})(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for every row.

    ``options`` are the defaults that were typed; ``grounds`` says where their paths count from.
    ``header`` is the manifest's own, its paths counting from ``ground`` like the rows'. A row's value
    goes before an option's, which goes before the header's.
    """

    header: Mapping[str, Any]
    ground: Ground
    options: Mapping[str, Any] = field(default_factory=dict)
    grounds: Mapping[str, Ground] = field(default_factory=dict)
    output: OutputTemplate | None = None

    @classmethod
    def of(
        cls,
        header: Mapping[str, Any],
        ground: Ground,
        options: Mapping[str, Any],
        output: OutputTemplate | None,
        here: Path,
    ) -> Rules:
        """The rules, the options' paths counting from ``here``."""
        placed, grounds = dict(options), {}
        for name, value in options.items():
            if isinstance(value, (list, tuple)) and name in PATHS:
                placed[name] = [str(item) for item in value]
                grounds[name] = Ground(here, fenced=any(MARK in item for item in placed[name]))
            elif isinstance(value, Path) or is_path(name, value):
                grounds[name], placed[name] = ground_of_option(str(value), here)
        return cls(header, ground, placed, grounds, output)


class RowFields:
    """What a row comes to; ``problems`` collects everything that is wrong with it."""

    def __init__(self, raw: RawRow, rules: Rules) -> None:
        self._raw, self._rules = raw, rules
        merged = {**rules.header, **rules.options, **raw.values}
        # An empty text takes a default back; sources that have no null cannot say it.
        self._given = {name: value for name, value in merged.items() if value != ""}
        self._filling = Filling(raw.number, self._given)
        self.values: dict[str, Any] = self._filling.fill()
        self.problems: list[Problem] = self._filling.problems
        self.fields: dict[str, Any] = {}
        for name, value in self.values.items():
            if name in FIELDS:
                self._take(name, value)

    @property
    def used(self) -> set[str]:
        """The columns that templates named."""
        return self._filling.used

    def folder(self) -> str | None:
        """The row's own folder below the output folder."""
        value = self.values.get(OUT)
        if value is None:
            return None
        try:
            return safe_folder(str(value))
        except ValueError as error:
            hint = "Write a folder below the output folder, which --out names."
            self.problem(OUT, f"{str(value)[:80]!r}: {error}", hint)
            return None

    def whole(self, name: str, allowed: range, usual: int) -> int:
        """A whole number that is no field of the request."""
        value = self.values.get(name)
        if value is None:
            return usual
        match = None if isinstance(value, bool) else _NUMBER.fullmatch(str(value).strip())
        if match is None or int(match[1]) not in allowed:
            hint = f"Write a whole number from {allowed[0]} to {allowed[-1]}."
            self.problem(name, f"{str(value)[:40]!r} is none that can be taken", hint)
            return usual
        return int(match[1])

    def refuse_strangers(self, used: Iterable[str]) -> None:
        """A problem for each of the row's own columns that is no field and that nothing uses."""
        for name in sorted(self._raw.values.keys() - KNOWN - set(used)):
            if not name.startswith(COMMENT):
                self.problem(name, *unknown_column(name))

    def request(self, count: int) -> ClipRequest | None:
        """The request the fields make, for the first of ``count`` seeds; None with the problems told."""
        bad = {problem.field for problem in self.problems}
        if not bad:
            try:
                request = ClipRequest(**self.fields)
            except InvalidRequest:
                pass  # told in full below
            else:
                if request.seed is None or request.seed + count <= _TOP_SEED:
                    return request
                self.problem("seed", f"{count} seeds leave the range", "Write a smaller one.")
                return None
        for error in ClipRequest.problems_of(self.fields):
            if error.field == "prompt" and "prompt" not in self.fields:
                # There is nothing to show, which goes without saying where what there is is wrong.
                if not bad & {"prompt", "image", "images"}:
                    hint = "Give the row one of them, or all rows by --prompt or --image."
                    self.problem("prompt", error.message, hint)
                continue
            self.problems.append(Problem.of(self._raw.number, error))
        return None

    def columns(self) -> dict[str, Any]:
        """What an output template may name: every single value, paths by their name alone."""
        named = {k: v for k, v in self.values.items() if not isinstance(v, (list, dict))}
        for name in named.keys() & {*PATHS, "checkpoint"}:
            if name in PATHS or is_path(name, named[name]):
                named[name] = Path(str(named[name])).stem
        return named

    def problem(self, name: str | None, reason: str, hint: str) -> None:
        """Take down something that is wrong."""
        self.problems.append(Problem(self._raw.number, name, reason, hint))

    def _take(self, name: str, value: Any) -> None:
        """A field as the request takes it: absolute where it is a path."""
        try:
            if name == "images":
                value = [
                    self._ground(name).place(item) if isinstance(item, str) else item
                    for item in split_paths(value)
                ]
            elif is_path(name, value):
                value = self._ground(name).place(value)
        except Misplaced as error:
            self.problem(name, error.reason, error.hint)
            return
        self.fields[name] = value

    def _ground(self, name: str) -> Ground:
        if name in self._raw.values:
            return self._rules.ground
        return self._rules.grounds.get(name, self._rules.ground)
