"""``svd-local batch status``, ``retry`` and ``cancel``: batches that were begun, and their jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from svd_local.cli._shared import emit, ending, load_settings, printable, tell
from svd_local.errors import NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from svd_local.batch.standing import Standing
    from svd_local.catalog import Catalog
    from svd_local.catalog.jobs import Batch, Job, Run, State

_SHOWN = 20
"""Failures printed for people; --json has all of them."""

_Name = Annotated[
    str, typer.Argument(help="The batch's name, or its beginning.", show_default=False)
]
_Rows = Annotated[
    list[int] | None,
    typer.Option(
        "--row",
        help="Only the clips of this row; may be repeated.",
        metavar="N",
        show_default=False,
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def status(
    name: Annotated[
        str | None,
        typer.Argument(help="One batch; all of them where left out.", show_default=False),
    ] = None,
    json_output: _Json = False,
) -> None:
    """Say how batches stand: what is done, running, still to do, and what failed and why."""
    from svd_local.batch.standing import as_seen, standing

    with ending(json_output), _catalog() as catalog:
        jobs, root = catalog.jobs, catalog.media_root
        if name is None:
            batches = [standing(jobs, batch, root) for batch in jobs.batches()]
            if json_output:
                emit({"success": True, "batches": [batch.to_json() for batch in batches]})
            else:
                tell("\n".join(map(_line, batches)) or "no batch was ever run here")
            return
        batch = standing(jobs, jobs.batch(name), root)
        outlook = jobs.outlook(batch.batch.id)
        runs = as_seen(jobs.runs(batch.batch.id), root)
        running, failed = (
            jobs.jobs(batch.batch.id, state=state, limit=None) for state in ("running", "failed")
        )
        if json_output:
            emit(
                {
                    "success": True,
                    "batch": batch.to_json(),
                    "next_s": 0.0 if batch.cut_off else outlook.next_s,
                    "running": [
                        job.to_json() | {"cut_off": batch.is_cut_off(job)} for job in running
                    ],
                    "failed": [job.to_json() for job in failed],
                    "runs": [run.to_json() for run in runs],
                }
            )
            return
        lines = [_line(batch), f"  files: {batch.batch.folder}"]
        lines += _told_of(batch.batch)
        lines += _told_of_runs(batch, runs)
        several = jobs.several(batch.batch.id, cancelled=True)
        lines += [_whose(_place(job, several), job, batch.is_cut_off(job)) for job in running]
        if not running and outlook.queued and outlook.next_s:
            lines.append(f"  the next clip may begin in {outlook.next_s:.0f} s")
        lines += [f"  {_place(job, several)} failed: {_why(job)}" for job in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            lines.append(f"  and {len(failed) - _SHOWN:,} more; --json has all of them")
        tell("\n".join(map(printable, lines)))


def retry(
    name: _Name,
    row: _Rows = None,
    cancelled: Annotated[
        bool, typer.Option("--cancelled", help="Those that were cancelled as well.")
    ] = False,
    json_output: _Json = False,
) -> None:
    """Queue failed clips again, with all their tries; the batch's own command then makes them."""
    states: tuple[State, ...] = ("failed", "cancelled") if cancelled or row else ("failed",)
    with ending(json_output), _catalog() as catalog:
        batch = catalog.jobs.batch(name)
        ids = _ids(catalog, batch, row)
        count = catalog.jobs.retry(batch.id, ids, states=states)
        why_none = "none of them failed" + (" or was cancelled" if "cancelled" in states else "")
        if batch.counts.get("cancelled") and "cancelled" not in states:
            why_none += "; --cancelled takes those that were cancelled as well"
        _changed(batch, count, "queued", why_none, json_output)


def cancel(name: _Name, row: _Rows = None, json_output: _Json = False) -> None:
    """Cancel clips that wait or run; whoever makes one stops and publishes nothing."""
    with ending(json_output), _catalog() as catalog:
        batch = catalog.jobs.batch(name)
        ids = _ids(catalog, batch, row)
        count = catalog.jobs.cancel(batch.id, ids)
        _changed(batch, count, "cancelled", "none of them waits or runs", json_output)


@contextmanager
def _catalog() -> Iterator[Catalog]:
    from svd_local.catalog import Catalog

    settings = load_settings()
    with Catalog(settings.database_url, settings.media_dir) as catalog:
        yield catalog


def _ids(catalog: Catalog, batch: Batch, rows: list[int] | None) -> list[int] | None:
    """The jobs of ``rows``; None for all.

    Raises:
        NotFound: a row has none.
    """
    if not rows:
        return None
    jobs = catalog.jobs.jobs(batch.id, limit=None)
    missing = set(rows) - {job.row for job in jobs}
    if missing:
        raise NotFound(
            f"batch {batch.name} has no row {min(missing)}",
            hint="Rows count as in the manifest, its header included.",
        )
    return [job.id for job in jobs if job.row in rows]


def _changed(batch: Batch, count: int, what: str, why_none: str, json_output: bool) -> None:
    if json_output:
        emit({"success": True, "batch": batch.name, "clips": count, "state": what})
        return
    from svd_local.batch.counting import counted

    told = f"{counted(count, 'clip')} {what}"
    tell(told if count else f"{told}: {why_none}")
    if count and what == "queued":
        # Its options are part of what a clip is: another command would make others.
        from svd_local.batch.asked import command_of

        tell("the batch's own command, with the same options as before, goes on with them")
        command = command_of(batch)
        if command is not None:
            tell(printable(f"  {command}"))


def _told_of(batch: Batch) -> list[str]:
    """Why it pauses, and what was left out of its manifest."""
    from svd_local.batch.skipped import Skipped

    lines = []
    if batch.pause is not None:
        since = _moment(batch.pause.since)
        lines.append(f"  paused since {since}: {batch.pause.why}. {batch.pause.hint}")
    skipped = Skipped.by(batch)
    if skipped is not None:
        shown = skipped.problems[:_SHOWN]
        lines += [f"  {skipped}", *(f"    {problem}. {problem.hint}" for problem in shown)]
        hidden = len(skipped.problems) - len(shown) + skipped.more
        if hidden:
            lines.append(
                f"    and {hidden:,} more; the batch's command with --dry-run --json tells all of them"
            )
    return lines


def _told_of_runs(standing: Standing, runs: Sequence[Run]) -> list[str]:
    """Who is at work; where nobody is, how the last command ended."""
    from svd_local.batch.asked import command_of
    from svd_local.batch.counting import counted
    from svd_local.batch.report.words import span

    working = [run for run in runs if run.state == "running"]
    if working:
        return [f"  at work since {_moment(run.began_at)}: {run.who}" for run in working]
    if not runs:
        return []
    last = runs[0]
    made = counted(last.figures["made"], "clip")
    told = f"  last run: {_moment(last.began_at)}, {span(last.seconds)}, {made} made"
    if last.state == "failed":
        error = last.figures.get("error") or {}
        return [f"{told}; it failed: {error.get('message', 'nobody knows of what')}"]
    if last.state == "lost":
        command = None if standing.batch.finished else command_of(standing.batch)
        told += "; it was killed, or cut off"
        return [told] if command is None else [f"{told}. It goes on with:", f"    {command}"]
    return [f"{told}; stopped before the end" if last.figures["stopped"] else told]


def _whose(place: str, job: Job, cut_off: bool) -> str:
    if cut_off:
        return f"  {place} was with {job.worker}, which is dead, try {job.attempt}"
    return f"  {place} is with {job.worker}, try {job.attempt}"


def _moment(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def _line(standing: Standing) -> str:
    from svd_local.catalog.jobs import STATES

    batch = standing.batch
    counts: list[tuple[str, int]] = [(state, batch.counts.get(state, 0)) for state in STATES]
    place = STATES.index("running")
    whole = counts[place][1]
    counts[place : place + 1] = [
        ("running", whole - standing.cut_off),
        ("cut off", standing.cut_off),
    ]
    parts = [f"{count:,} {state}" for state, count in counts if count]
    if batch.pause is not None:
        parts.append("paused")
    if batch.skipped is not None:
        rows = batch.skipped["rows"]
        parts.append(f"{rows:,} {'row' if rows == 1 else 'rows'} left out as bad")
    return printable(f"{batch.name}  {_moment(batch.created_at)}  {', '.join(parts) or 'no clips'}")


def _place(job: Job, several: frozenset[int]) -> str:
    """Its row, and its seed where the row has ``several`` clips."""
    return f"row {job.row}" + (f", seed {job.fields.get('seed')}" if job.row in several else "")


def _why(job: Job) -> str:
    reason = job.reason
    if reason is None:
        return ""
    return f"{reason.message}. {reason.hint}" if reason.hint else reason.message
