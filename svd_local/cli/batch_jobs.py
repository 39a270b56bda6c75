"""``svd-local batch status``, ``retry`` and ``cancel``: batches that were begun, and their jobs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from svd_local.cli._shared import emit, ending, load_settings, printable, tell
from svd_local.errors import NotFound

if TYPE_CHECKING:
    from svd_local.catalog import Catalog
    from svd_local.catalog.jobs import Batch, Job, State

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
    with ending(json_output), _catalog() as catalog:
        if name is None:
            batches = catalog.jobs.batches()
            if json_output:
                emit({"success": True, "batches": [batch.to_json() for batch in batches]})
            else:
                tell("\n".join(map(_line, batches)) or "no batch was ever run here")
            return
        batch = catalog.jobs.batch(name)
        outlook = catalog.jobs.outlook(batch.id)
        running, failed = (
            catalog.jobs.jobs(batch.id, state=state, limit=None) for state in ("running", "failed")
        )
        if json_output:
            emit(
                {
                    "success": True,
                    "batch": batch.to_json(),
                    "next_s": outlook.next_s,
                    "running": [job.to_json() for job in running],
                    "failed": [job.to_json() for job in failed],
                }
            )
            return
        lines = [_line(batch), f"  files: {batch.folder}"]
        lines += _told_of(batch)
        lines += [f"  row {job.row} is with {job.worker}, try {job.attempt}" for job in running]
        if not running and outlook.queued and outlook.next_s:
            lines.append(f"  the next clip may begin in {outlook.next_s:.0f} s")
        lines += [f"  row {job.row} failed: {_why(job)}" for job in failed[:_SHOWN]]
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
        _changed(batch, catalog.jobs.retry(batch.id, ids, states=states), "queued", json_output)


def cancel(name: _Name, row: _Rows = None, json_output: _Json = False) -> None:
    """Cancel clips that wait or run; whoever makes one stops and publishes nothing."""
    with ending(json_output), _catalog() as catalog:
        batch = catalog.jobs.batch(name)
        ids = _ids(catalog, batch, row)
        _changed(batch, catalog.jobs.cancel(batch.id, ids), "cancelled", json_output)


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


def _changed(batch: Batch, count: int, what: str, json_output: bool) -> None:
    if json_output:
        emit({"success": True, "batch": batch.name, "clips": count, "state": what})
        return
    tell(f"{count:,} {'clip' if count == 1 else 'clips'} {what}")
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
        since = batch.pause.since.astimezone().strftime("%Y-%m-%d %H:%M")
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


def _line(batch: Batch) -> str:
    from svd_local.catalog.jobs import STATES

    parts = [f"{batch.counts[state]:,} {state}" for state in STATES if batch.counts.get(state)]
    if batch.pause is not None:
        parts.append("paused")
    if batch.skipped is not None:
        rows = batch.skipped["rows"]
        parts.append(f"{rows:,} {'row' if rows == 1 else 'rows'} left out as bad")
    when = batch.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
    return printable(f"{batch.name}  {when}  {', '.join(parts) or 'no clips'}")


def _why(job: Job) -> str:
    reason = job.reason
    if reason is None:
        return ""
    return f"{reason.message}. {reason.hint}" if reason.hint else reason.message
