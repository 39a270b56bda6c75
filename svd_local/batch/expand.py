"""From rows to jobs: counts, seeds, names and keys."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from svd_local.batch.columns import COMMENT, COUNT, KNOWN, PRIORITY, unknown_column
from svd_local.batch.fields import RowFields, Rules
from svd_local.batch.naming import Unnameable, compared, numbered
from svd_local.batch.problems import Problem
from svd_local.batch.source import RawRow, Source
from svd_local.batch.spec import JobSpec
from svd_local.request import ClipRequest

MAX_JOBS = 1_000_000
NUMBERED = frozenset({"index", "row", "seed"})
"""What an output template may name beside columns."""
_COUNTS = range(1, 1001)
_PRIORITIES = range(-1000, 1001)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a manifest and its jobs. Where there are problems there are no jobs."""

    number: int
    count: int = 1
    """How many jobs it stands for, good or bad."""
    jobs: tuple[JobSpec, ...] = ()
    problems: tuple[Problem, ...] = ()
    request: ClipRequest | None = None
    """What the jobs ask for, with the first one's seed."""
    same_as: int | None = None
    """The first row that asks for the very same, where an earlier one does."""
    renamed: tuple[str, int] | None = None
    """A name it could not have, and the first row that has it."""
    picture: str | None = None
    """As ``RawRow`` has it."""
    fatal: bool = False
    """Whether it spoils the manifest as a whole: the header is wrong, or what follows unread."""


class Expansion:
    """One pass over a manifest's rows. What it remembers of each is a digest or two."""

    def __init__(self, source: Source, rules: Rules) -> None:
        self._source, self._rules = source, rules
        self._index = 0
        self._copies: dict[bytes, list[int]] = {}
        """Digest of a job -> how many there are, and the row of the first."""
        self._names: dict[bytes, list[int]] = {}
        """Digest of a name -> the row that has it, and the number to try next for another."""
        self._output = frozenset() if rules.output is None else rules.output.columns
        self._idle = dict.fromkeys(rules.header, 1)
        if source.kind == "csv":
            self._idle |= source.columns or {}
        for name in KNOWN | self._output:
            self._idle.pop(name, None)

    def rows(self) -> Iterator[Row]:
        """Every row, and at the end one for each column of the header that none made use of."""
        for raw in self._source.rows():
            row = _with_picture(self._row(raw), raw.picture)
            self._index += row.count
            yield row
            if self._index > MAX_JOBS:
                reason = f"more than {MAX_JOBS:,} clips; what follows was not read"
                yield _bad(row.number, None, reason, "Cut the manifest into several.")
                return
        for name, number in self._idle.items():
            if not name.startswith(COMMENT):
                yield _bad(number, name, *unknown_column(name))

    def _row(self, raw: RawRow) -> Row:
        if raw.reason is not None:
            problem = Problem(raw.number, raw.column, raw.reason, raw.hint)
            return Row(raw.number, problems=(problem,), fatal=raw.last)
        work = RowFields(raw, self._rules)
        for name in work.used & self._idle.keys():
            del self._idle[name]
        if self._source.columns is None:
            work.refuse_strangers(work.used | self._output)
        count = work.whole(COUNT, _COUNTS, 1)
        priority = work.whole(PRIORITY, _PRIORITIES, 0)
        folder = work.folder()
        request = work.request(count)
        if request is not None and not work.problems:
            places = self._places(work, raw.number, folder, request.seed, count)
            if not work.problems:
                return self._jobs(raw.number, work.fields, request, places, priority)
        return Row(raw.number, count, problems=tuple(work.problems))

    def _places(
        self, work: RowFields, row: int, out: str | None, seed: int | None, count: int
    ) -> list[tuple[str | None, str | None]]:
        """Folder and name of each of the row's jobs, as the row and the template have them."""
        template = self._rules.output
        if template is None:
            return [(out, None)] * count
        columns, places = work.columns(), []
        for n in range(count):
            own_seed = None if seed is None else seed + n
            values = {"index": self._index + n, "row": row, **columns, "seed": own_seed}
            try:
                folder, name = template.apply(values)
            except Unnameable as error:
                work.problem(error.column, error.reason, error.hint)
                return []
            places.append(("/".join(part for part in (out, folder) if part) or None, name))
        return places

    def _jobs(
        self,
        row: int,
        fields: Mapping[str, Any],
        request: ClipRequest,
        places: list[tuple[str | None, str | None]],
        priority: int,
    ) -> Row:
        jobs: list[JobSpec] = []
        same_as: int | None = None
        renamed: tuple[str, int] | None = None
        for n, (folder, wanted) in enumerate(places):
            own = dict(fields)
            if request.seed is not None:
                own["seed"] = request.seed + n
            name = wanted
            if wanted is not None:
                name, holder = self._free(folder, wanted, row)
                if holder not in (None, row):
                    renamed = renamed or (wanted, holder or 0)
            key, first = self._key(own, folder, row)
            same_as = same_as or (first if first != row else None)
            jobs.append(JobSpec(row, self._index + n, key, own, folder, name, priority))
        return Row(row, len(jobs), tuple(jobs), (), request, same_as, renamed)

    def _free(self, folder: str | None, name: str, row: int) -> tuple[str, int | None]:
        """``name``, or it with a number where it is taken, and then the row that has it."""
        entry = self._names.setdefault(_digest(compared(folder, name)), [row, 1])
        holder = entry[0]
        while entry[1] > 1:
            free = numbered(name, entry[1])
            entry[1] += 1
            own = [row, 2]
            if self._names.setdefault(_digest(compared(folder, free)), own) is own:
                return free, holder
        entry[1] = 2
        return name, None

    def _key(self, fields: Mapping[str, Any], folder: str | None, row: int) -> tuple[str, int]:
        """The job's key, and the first row that asks for the same."""
        text = json.dumps([fields, folder], sort_keys=True, separators=(",", ":"), default=str)
        content = hashlib.sha256(text.encode()).digest()
        entry = self._copies.setdefault(content[:16], [0, row])
        entry[0] += 1
        return hashlib.sha256(content + entry[0].to_bytes(4, "big")).hexdigest(), entry[1]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _with_picture(row: Row, picture: str | None) -> Row:
    if picture is None:
        return row
    problems = tuple(dataclasses.replace(one, picture=picture) for one in row.problems)
    return dataclasses.replace(row, picture=picture, problems=problems)


def _bad(number: int, name: str | None, reason: str, hint: str) -> Row:
    return Row(number, 0, problems=(Problem(number, name, reason, hint),), fatal=True)
