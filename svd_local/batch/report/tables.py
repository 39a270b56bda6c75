"""The report for programs and spreadsheets: CSV and JSON, streamed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from svd_local.batch.counting import counted
from svd_local.batch.report.entry import Entry
from svd_local.batch.report.figures import PHASES
from svd_local.batch.report.gather import BatchReport
from svd_local.batch.skipped import Skipped

FORMAT = "svd-local batch report"
COLUMNS = (
    *("row", "index", "state", "title", "prompt", "pictures", "video", "attempt"),
    *("problem_code", "problem", "reason_code", "reason", "hint"),
    *("kind", "synthetic", "cached", "tier", "checkpoint", "engine", "device", "speed"),
    *("seed", "frames", "fps", "width", "height", "duration_s", "elapsed_s", "worked_s"),
    *PHASES,
    *("quality_passed", "warnings", "corrections", "missed_tiers"),
    *("started_at", "finished_at", "worker", "bytes", "poster", "clip_id", "fingerprint"),
)
_FORMULA = re.compile(
    r"[\s\"'`\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]*[=+\-@\uff0b\uff0d\uff1d\uff20]"
)
"""Beginnings that a spreadsheet may take for a formula: the sign, also in its full width, after
whatever it skips or a person would not see."""
LEFT_OUT = "left-out"
"""Stands where a job has its state."""
_BAD_ROW = "bad-row"
_SPACE_FIRST = ("\t", "\r", "\n")
_SEPARATOR = " | "


def write_csv(report: BatchReport, path: Path) -> None:
    """One line a job, and behind them one for each row that was left out as bad. UTF-8 with a mark, by which Excel knows it; text is never a formula.

    A cell of text that a spreadsheet might run gets an apostrophe in front, as a person would type
    it; numbers are left as they are.

    Raises:
        OSError: it cannot be written.
    """
    with path.open("w", encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(COLUMNS)
        for entry in report.entries():
            cells = _cells(entry)
            lines.writerow([_cell(cells[column]) for column in COLUMNS])
        for cells in () if report.skipped is None else _left_out(report.skipped):
            lines.writerow([_cell(cells.get(column)) for column in COLUMNS])


def write_json(report: BatchReport, path: Path) -> None:
    """The batch, its figures, and ``jobs``: one line each, as ``Entry`` has them.

    Raises:
        OSError: it cannot be written.
    """
    head = {
        "format": FORMAT,
        "batch_id": report.batch.id,
        "batch": report.batch.to_json() | {"counts": dict(report.figures.counts)},
        "written_at": report.written_at.isoformat(timespec="milliseconds"),
        "figures": report.figures.to_json(),
        "runs": [run.to_json() for run in report.runs],
    }
    # A file name that is no UTF-8 is told by an escape, which JSON reads back.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ',\n"jobs": [')
        for number, line in enumerate(report.lines()):
            file.write((",\n" if number else "\n") + line)
        file.write("\n]}\n")


def is_of(path: Path, batch_id: str) -> bool:
    """Whether ``path`` is a document that ``write_json`` wrote for this batch."""
    beginning = json.dumps({"format": FORMAT, "batch_id": batch_id})[:-1].encode()
    try:
        with path.open("rb") as file:
            return file.read(len(beginning)) == beginning
    except OSError:
        return False


def _cells(entry: Entry) -> dict[str, Any]:
    values = {column: getattr(entry, column, None) for column in COLUMNS}
    problem, reason = entry.problem or {}, entry.reason or {}
    return {
        **values,
        "pictures": _SEPARATOR.join(entry.pictures),
        "video": entry.files.get("video"),
        "poster": entry.files.get("poster"),
        "problem_code": problem.get("code"),
        "problem": problem.get("message"),
        "reason_code": reason.get("code"),
        "reason": reason.get("message"),
        "hint": problem.get("hint") or reason.get("hint"),
        **{phase: entry.timings.get(phase) for phase in PHASES},
        "quality_passed": None if entry.quality is None else entry.quality.get("passed"),
        "warnings": _SEPARATOR.join(entry.warnings),
        "corrections": _SEPARATOR.join(corrected(one) for one in entry.corrections),
        "missed_tiers": _SEPARATOR.join(
            f"{one.get('tier')}: {one.get('reason')}" for one in entry.missed
        ),
    }


def _left_out(skipped: Skipped) -> Iterator[dict[str, Any]]:
    """A line for each bad row, and one for those of which it is not known any more what they had."""
    known = {"state": LEFT_OUT, "reason_code": _BAD_ROW}
    for problems in skipped.by_row:
        first = problems[0]
        reasons = (f"{one.field}: {one.reason}" if one.field else one.reason for one in problems)
        yield known | {
            "row": first.row,
            "pictures": first.picture,
            "reason": _SEPARATOR.join(reasons),
            "hint": first.hint,
        }
    others = skipped.rows - len(skipped.by_row)
    if others:
        yield known | {
            "reason": f"{counted(others, 'more row was', 'more rows were')} left out as bad"
        }


def corrected(correction: Mapping[str, Any]) -> str:
    """A correction in words."""
    return (
        f"{correction.get('field')}: {correction.get('from')} became {correction.get('to')}, "
        f"{correction.get('why')}"
    )


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return value
    text = value.replace("\0", "")
    return f"'{text}" if text.startswith(_SPACE_FIRST) or _FORMULA.match(text) else text
