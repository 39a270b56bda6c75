"""Validate: go through all of a manifest before any clip of it is begun."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svd_local.batch.columns import PATHS
from svd_local.batch.counting import counted
from svd_local.batch.expand import Row
from svd_local.batch.forecast import Forecast
from svd_local.batch.manifest import Manifest
from svd_local.batch.outlook import Foresight
from svd_local.batch.pace import Hands
from svd_local.batch.problems import Problem
from svd_local.batch.skipped import Skipped
from svd_local.batch.spec import JobSpec
from svd_local.catalog.jobs.values import State
from svd_local.errors import ImageRejected, InvalidRequest
from svd_local.settings import Settings
from svd_local.tiers.base import Tier

_TELLING = 1000
"""Rows between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found. ``rows`` and ``jobs`` count good and bad ones together."""

    manifest: Manifest
    out: Path
    """The batch's output folder, absolute."""
    rows: int
    jobs: int
    problems: tuple[Problem, ...]
    """All of them, in the order of the rows; a row may have several."""
    bad_rows: frozenset[int]
    fatal: Problem | None
    """What spoils the manifest as a whole: its header, or a row behind which nothing can be read."""
    duplicates: tuple[tuple[int, int], ...]
    """Rows that ask for the very same as an earlier one, and that one."""
    one_clip: frozenset[int]
    """Those of them that have a seed, and so are the same clip: it is made once, and found then."""
    renamed: tuple[tuple[int, int, str], ...]
    """Rows whose file name an earlier one has, that one, and the name; theirs gets a number."""
    forecast: Forecast = field(default_factory=Forecast)

    @property
    def clean(self) -> bool:
        """Whether every row is good, and there is one."""
        return not self.problems and self.jobs > 0

    @property
    def good_jobs(self) -> int:
        """How many jobs can be made, or are over already."""
        return 0 if self.fatal else self.forecast.clips + self.forecast.over.total()

    @property
    def skipped(self) -> Skipped | None:
        """What a batch that goes without the bad rows leaves out."""
        return Skipped.of(len(self.bad_rows), self.problems)

    def specs(self) -> Iterator[JobSpec]:
        """The good jobs, read from the manifest once more.

        Raises:
            InvalidRequest: the manifest has changed since.
        """
        if self.fatal:
            return
        for row in self.manifest.rows():
            if row.number not in self.bad_rows:
                yield from row.jobs

    def require_startable(self, *, skip_invalid: bool) -> None:
        """Refuse a batch that is not clean, or, with ``skip_invalid``, has nothing good.

        Raises:
            InvalidRequest: says how many rows are bad.
        """
        if not self.rows and not self.problems:
            raise InvalidRequest(
                f"the folder {self.manifest.path.name} holds no pictures"
                if self.manifest.kind == "folder"
                else f"the manifest {self.manifest.path.name} holds no rows",
                hint="Put the pictures right into it, as PNG, JPEG or WebP; folders in it are not looked into."
                if self.manifest.kind == "folder"
                else "Write a row for every clip.",
                field="manifest",
            )
        if self.clean or (skip_invalid and self.good_jobs):
            return
        if self.fatal is not None:
            raise InvalidRequest(
                f"the manifest {self.manifest.path.name} is not sound as a whole: {self.fatal}",
                hint=self.fatal.hint,
                field=self.fatal.field or "manifest",
            )
        rows = len(self.bad_rows)
        them = "it" if rows == 1 else "them"
        raise InvalidRequest(
            f"{rows:,} of {counted(self.rows, 'row')} cannot be made",
            hint=f"Correct {them}."
            if skip_invalid or not self.good_jobs
            else f"Correct {them}, or leave {them} out with --skip-invalid.",
            field="manifest",
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is no error and should be known, for people."""
        notes = list(self.manifest.notes)
        for same in (False, True):
            rows = [pair for pair in self.duplicates if (pair[0] in self.one_clip) is same]
            if rows:
                row, first = rows[0]
                notes.append(
                    f"{counted(len(rows), 'row is', 'rows are')} the very same as an earlier one (row {row} as row {first}"
                    + ("), down to the seed: that clip is made once, and " if same else "); ")
                    + ("theirs as well" if same else "each is a clip of its own")
                )
        if self.renamed:
            row, first, name = self.renamed[0]
            notes.append(
                f"{counted(len(self.renamed), 'row wants', 'rows want')} a file name that an earlier one has "
                f"(row {row} as row {first}: {name!r}) and gets a number behind it"
            )
        if self.forecast.leaving:
            notes.append(
                f"the pictures or words of {counted(self.forecast.leaving, 'clip')} would leave this machine"
            )
        return tuple(notes)

    def to_json(self) -> dict[str, Any]:
        """All of it, nothing left out."""
        return {
            "manifest": str(self.manifest.path),
            "format": self.manifest.kind,
            "out": str(self.out),
            "rows": self.rows,
            "jobs": self.jobs,
            "good_jobs": self.good_jobs,
            "problems": [problem.to_json() for problem in self.problems],
            "duplicates": [
                {"row": row, "same_as": first, "one_clip": row in self.one_clip}
                for row, first in self.duplicates
            ],
            "renamed": [
                {"row": row, "same_name_as": first, "name": name}
                for row, first, name in self.renamed
            ],
            "notes": list(self.notes),
            "forecast": self.forecast.to_json(self.out),
        }


def validate(
    manifest: Manifest,
    settings: Settings,
    *,
    out: Path | None = None,
    tiers: Sequence[Tier] | None = None,
    hands: Hands | None = None,
    over: Mapping[str, State] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Validation:
    """Go through every row: its fields, its pictures (their headers), and who would make it here.

    Nothing is written, loaded or sent. Memory grows by some hundred bytes a row.

    Args:
        manifest: the manifest.
        settings: the machine's.
        out: the batch's output folder; None is the media root's ``videos``.
        tiers: the ladder; None takes the standard one.
        hands: who would make the clips; None is one worker with its usual lanes.
        over: the states of the batch's jobs that are done, given up or cancelled, by key: the forecast
            leaves them out.
        progress: told the number of rows now and then.

    Raises:
        InvalidRequest: the manifest cannot be read to its end.
        StorageFailed: there is a catalog, and it cannot be read.
    """
    look = _Look(Foresight(settings, tiers), over or {})
    problems: list[Problem] = []
    bad: set[int] = set()
    duplicates: list[tuple[int, int]] = []
    one_clip: set[int] = set()
    renamed: list[tuple[int, int, str]] = []
    forecast = Forecast(hands or Hands())
    rows = jobs = 0
    fatal: Problem | None = None
    for row in manifest.rows():
        rows += row.count > 0
        jobs += row.count
        found = row.problems or look.at(row, forecast)
        if found:
            problems.extend(found)
            bad.add(row.number)
            fatal = fatal or (found[0] if row.fatal else None)
        elif row.same_as is not None:
            duplicates.append((row.number, row.same_as))
            if (
                row.request is not None
                and row.request.seed is not None
                and not row.request.no_cache
            ):
                one_clip.add(row.number)
        if row.renamed is not None and not found:
            name, first = row.renamed
            renamed.append((row.number, first, name))
        if progress is not None and rows % _TELLING == 0:
            progress(rows)
    return Validation(
        manifest,
        (out or settings.videos_dir).absolute(),
        rows,
        jobs,
        tuple(problems),
        frozenset(bad),
        fatal,
        tuple(duplicates),
        frozenset(one_clip),
        tuple(renamed),
        forecast,
    )


class _Look:
    """Looks at what the manifest alone does not tell. A picture of many rows is opened once."""

    def __init__(self, foresight: Foresight, over: Mapping[str, State]) -> None:
        self._foresight = foresight
        self._over = over
        self._seen: dict[tuple[str, str], tuple[str, str] | None] = {}
        """Path and field -> reason and hint; an exception would keep all it was raised through."""

    def at(self, row: Row, forecast: Forecast) -> tuple[Problem, ...]:
        """What is wrong with a row; where nothing is, it counts into the forecast."""
        assert row.request is not None, "a row without problems has a request"
        found = list(self._pictures(row))
        outlook = self._foresight.of(row.request)
        if outlook.problem is not None:
            found.append(Problem.of(row.number, outlook.problem))
        if not found:
            states = [self._over.get(job.key) for job in row.jobs]
            forecast.over.update(state for state in states if state is not None)
            forecast.add(outlook, states.count(None))
        if row.picture is not None:
            found = [dataclasses.replace(one, picture=row.picture) for one in found]
        return tuple(found)

    def _pictures(self, row: Row) -> Iterator[Problem]:
        fields = row.jobs[0].fields
        for name in PATHS:
            value = fields.get(name)
            for path in value if isinstance(value, list) else [value]:
                wrong = self._picture(path, name) if isinstance(path, str) else None
                if wrong is not None:
                    yield Problem(row.number, name, *wrong)

    def _picture(self, path: str, name: str) -> tuple[str, str] | None:
        from svd_local.keyframe import check_picture

        seen = (path, name)
        if seen not in self._seen:
            self._seen[seen] = None
            try:
                check_picture(Path(path), field=name)
            except ImageRejected as error:
                hint = error.hint
                if "\\" in path and os.sep == "/":
                    hint = f"Write / between folders: \\ is a letter of the name in {path!r}."
                self._seen[seen] = Problem.of(0, error).reason, hint
        return self._seen[seen]
