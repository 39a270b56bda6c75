"""``svd-local catalog``: what was made, what it took, and getting rid of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from svd_local.cli._shared import emit, ending, load_settings, printable, say
from svd_local.errors import Cancelled, InvalidRequest

if TYPE_CHECKING:
    from svd_local.catalog import Catalog, StoredClip

app = typer.Typer(
    help="The clips that were made: list them, look at one, figures, remove.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_ID_SHOWN = 13
"""The millisecond and 15 random bits: enough to name a clip by, and room for the rest of the line."""
_ABOUT = 70
_KINDS = ("generated", "animated-stills")
_DAYS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*d?\s*", re.IGNORECASE)
_Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most N.", metavar="N")] = 50,
    tier: Annotated[
        str | None, typer.Option("--tier", help="Only clips this tier made.", metavar="ID")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only this kind.", metavar="|".join(_KINDS))
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only the last DAYS days.", metavar="DAYS")
    ] = None,
    json_output: _Json = False,
) -> None:
    """The clips, newest first."""
    with ending(json_output):
        if kind not in (None, *_KINDS):
            raise InvalidRequest(
                f"kind: {kind!r} is none", hint=f"Write {' or '.join(_KINDS)}.", field="kind"
            )
        start = None if since is None else _ago(_days(since, "since"), "since")
        with _catalog() as catalog:
            clips = catalog.clips(limit=limit, tier=tier, kind=kind, since=start)
        if json_output:
            emit({"success": True, "clips": [clip.summary() for clip in clips]})
        elif clips:
            _show_list(clips)
        else:
            say("no clips")


@app.command()
def show(
    clip: Annotated[str, typer.Argument(help="The clip's id, or its beginning.", metavar="ID")],
    json_output: _Json = False,
) -> None:
    """All that is known of one clip: what was asked, how it ran, its files."""
    with ending(json_output):
        with _catalog() as catalog:
            document = catalog.get(clip).to_json()
        if json_output:
            emit({"success": True, "clip": document})
        else:
            _show_pairs(document)


@app.command()
def stats(
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            help="Only the clips of this batch: its name, or the beginning.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    json_output: _Json = False,
) -> None:
    """How many clips, how large, and the seconds they took, by tier, checkpoint and speed."""
    with ending(json_output):
        with _catalog() as catalog:
            figures = catalog.stats(None if batch is None else catalog.jobs.batch(batch).id)
        if json_output:
            emit({"success": True, "stats": figures})
        else:
            _show_stats(figures)


@app.command()
def rm(
    clip: Annotated[
        str | None, typer.Argument(help="The clip's id, or its beginning.", metavar="ID")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Every clip older than DAYS days.", metavar="DAYS"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json_output: _Json = False,
) -> None:
    """Remove one clip, or all older than some days: row, video, poster and manifest together.

    On a terminal it asks first. Elsewhere, and with --json, it cannot ask: one clip named by its id
    is removed, --older-than needs --yes.
    """
    with ending(json_output), _catalog() as catalog:
        if (clip is None) == (older_than is None):
            raise InvalidRequest(
                "which clips to remove was said twice" if clip else "no clip to remove was named",
                hint="Name one by its id, or give --older-than DAYS.",
                field="clip",
            )
        if clip is not None:
            doomed = [catalog.get(clip)]
        else:
            days = _days(older_than or "", "older_than")
            _ago(days, "older_than")
            doomed = catalog.older_than(days)
        may_ask = sys.stdin.isatty() and not json_output
        if doomed and not yes and (may_ask or clip is None):
            _confirm(doomed, may_ask)
        removed = catalog.remove(doomed)
        if json_output:
            emit({"success": True, "removed": [_removed(one) for one in removed]})
        else:
            say(f"removed {_count(removed)}")


def _catalog() -> Catalog:
    from svd_local.catalog import Catalog

    settings = load_settings()
    return Catalog(settings.database_url, settings.media_dir)


def _days(text: str, field: str) -> float:
    match = _DAYS.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"{field}: {text!r} is no number of days", hint="Write for example 30.", field=field
        )
    return float(match[1])


def _ago(days: float, field: str) -> datetime:
    try:
        return datetime.now(UTC) - timedelta(days=days)
    except OverflowError:
        raise InvalidRequest(
            f"{field}: {days:g} days ago is before the calendar",
            hint="Write for example 30.",
            field=field,
        ) from None


def _confirm(doomed: Sequence[StoredClip], may_ask: bool) -> None:
    if not may_ask:
        raise InvalidRequest(
            f"{_count(doomed)} would be removed, and nobody can be asked",
            hint="Add --yes to remove them.",
            field="yes",
        )
    for one in doomed[:10]:
        say(f"{one.id}  {printable(one.text or '')}")
    if len(doomed) > 10:
        say(f"... and {len(doomed) - 10} more")
    question = f"Remove {_count(doomed)}, files and all? [y/N] "
    # Typer's own prompt would write to standard output, which is for data.
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Cancelled("nothing was removed")


def _count(clips: Sequence[StoredClip]) -> str:
    return "1 clip" if len(clips) == 1 else f"{len(clips)} clips"


def _removed(clip: StoredClip) -> dict[str, Any]:
    return {"id": clip.id, "bytes": clip.bytes, "files": clip.files.to_json()}


def _show_list(clips: Sequence[StoredClip]) -> None:
    from rich.table import Table

    table = Table(box=None)
    for name in ("id", "made", "by", "seconds"):
        table.add_column(name, no_wrap=True)
    table.add_column("about")
    for clip in clips:
        about = clip.text or ""
        about = about if len(about) <= _ABOUT else about[: _ABOUT - 1] + "…"
        _row(
            table,
            clip.id[:_ID_SHOWN],
            f"{clip.created_at.astimezone():%Y-%m-%d %H:%M}",
            clip.checkpoint or clip.tier,
            f"{clip.worked_s:.1f}",
            about if clip.present else f"(file is gone) {about}",
        )
    _print(table)


def _show_pairs(document: dict[str, Any]) -> None:
    """Nested JSON as one line a value, its place written with dots; what is null is left out."""
    from rich.table import Table

    told_already = document.keys()
    result = {key: item for key, item in document["result"].items() if key not in told_already}
    table = Table("what", "is", box=None, show_header=False)
    for name, value in _flat({**document, "result": result}):
        _row(table, name, value)
    _print(table)


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [
            pair for key, item in value.items() for pair in _flat(item, f"{name}.{key}".strip("."))
        ]
    return [] if value is None or value == [] else [(name, str(value))]


def _show_stats(figures: dict[str, Any]) -> None:
    from rich.table import Table

    from svd_local.request import format_bytes

    if not figures["clips"]:
        say("no clips")
        return
    table = Table(box=None)
    for name in ("tier", "checkpoint", "speed"):
        table.add_column(name)
    for name in ("clips", "size", "seconds, median", "p95"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = figures["groups"]
    if len(rows) > 1:
        rows = [*rows, {"tier": "all", "checkpoint": None, "speed": None, **figures}]
    for row in rows:
        _row(
            table,
            row["tier"],
            row["checkpoint"] or "",
            row["speed"] or "",
            f"{row['clips']:,}",
            format_bytes(row["bytes"]),
            f"{row['seconds_median']:.1f}",
            f"{row['seconds_p95']:.1f}",
        )
    _print(table)


def _row(table: Any, *cells: str) -> None:
    """A row of plain text: what users wrote is neither markup nor anything a terminal obeys."""
    from rich.text import Text

    table.add_row(*(Text(printable(cell), overflow="fold") for cell in cells))


def _print(table: Any) -> None:
    from rich.console import Console

    # A pipe has no width: nothing is folded there, so that lines can be searched.
    width = None if sys.stdout.isatty() else 400
    Console(width=width).print(table)
