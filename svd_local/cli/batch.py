"""``svd-local batch MANIFEST``: every clip of a manifest."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from svd_local.cli import batch_jobs, batch_report
from svd_local.cli._request_options import takes_request_options, typed_fields
from svd_local.cli._shared import emit, ending, fail, failure, load_settings, printable, say, tell
from svd_local.errors import InvalidRequest

if TYPE_CHECKING:
    from svd_local.batch import Validation

_OVER = {
    "done": "{} done already",
    "failed": "{} given up; svd-local batch retry queues them again",
    "cancelled": "{} cancelled; svd-local batch retry queues them again",
}
_SHOWN = 20
"""Problems printed for people; --json has all of them."""


class ManifestOrCommand(TyperGroup):
    """Takes a manifest where the name of a command could stand: ``run`` may be left out."""

    default = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in where it was left out; Typer then does what it always does."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ManifestOrCommand,
    help="Make every clip of a manifest: svd-local batch MANIFEST [OPTIONS].\n\n"
    "The word run may be left out. A manifest that is called like a command is written ./NAME.",
    subcommand_metavar="MANIFEST | COMMAND [ARGS]...",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("run", no_args_is_help=True)
@takes_request_options
def run(
    manifest: Annotated[
        str,
        typer.Argument(
            help="JSON Lines, CSV or YAML file, or a folder of pictures.", metavar="MANIFEST"
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only validate and foresee; nothing is written.")
    ] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave bad rows out instead of not starting.")
    ] = False,
    output_template: Annotated[
        str | None,
        typer.Option(
            "--output-template",
            help="Folders and names below --out, as {lesson}/{index:03d}_{title}.",
            metavar="TEMPLATE",
            show_default=False,
        ),
    ] = None,
    allow_outside: Annotated[
        bool,
        typer.Option(
            "--allow-outside", help="Let the manifest's paths lead out of its own folder."
        ),
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            help="Of the manifest; UTF-8 where not given.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="Folder for the files; where not given, one of the batch's name in the media root.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="What the batch is called; where not given, after the manifest and the folder.",
            show_default=False,
        ),
    ] = None,
    lanes: Annotated[
        int,
        typer.Option("--lanes", help="Clips in the making at once: one denoises, others prepare."),
    ] = 2,
    tries: Annotated[
        int, typer.Option("--tries", help="How often a clip is tried before it is given up.")
    ] = 3,
    hung_after: Annotated[
        float | None,
        typer.Option(
            "--hung-after",
            help="Seconds without a sign of life after which a clip is taken to hang; 1800 where not "
            "given, 21600 for a clip with --device cpu. A worker process that is frozen as a whole is "
            "replaced after 90, and one that does not begin after 180.",
            metavar="S",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Worker processes; one for each GPU where not given, none where there is no GPU.",
            min=0,
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", help="Only these, as 0,2.", metavar="N,...", show_default=False),
    ] = None,
    runner: Annotated[
        str,
        typer.Option(
            "--runner", help="local, or ray: on the GPUs of a Ray cluster.", metavar="NAME"
        ),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="Of the Ray cluster, as HOST:PORT; auto: the one this machine is a node of.",
            metavar="ADDRESS",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write report.html, .csv and .json.")
    ] = True,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
    **fields: Any,
) -> None:
    """Make every clip of a manifest; the same command goes on where it was stopped.

    Options that say what a clip should be fill in what a row leaves open.
    """
    with ending(json_output):
        from svd_local.batch import BatchOptions, read_manifest, validate
        from svd_local.batch.asked import asked
        from svd_local.cli.batch_run import Place, called_and_kept, make, over_already

        place = Place.of(runner, address, workers, gpus)
        if out is not None and not out.strip():
            raise InvalidRequest("out: an empty path", hint="Give a folder.", field="out")
        defaults = typed_fields(fields)
        opened = read_manifest(
            manifest,
            defaults=defaults,
            output_template=output_template,
            allow_outside=allow_outside,
            encoding=encoding,
        )
        settings = load_settings()
        called, folder = called_and_kept(opened.path, settings, name, out)
        options = BatchOptions(
            *(called, folder, opened.path.absolute()),
            asked=asked(
                defaults,
                output_template=output_template,
                allow_outside=allow_outside,
                encoding=encoding,
            ),
            lanes=lanes,
            tries=tries,
            silence_s=hung_after,
        )
        hands = place.hands(lanes)
        with _counting() as progress:
            over = over_already(settings, called)
            found = validate(
                opened, settings, out=folder, hands=hands, over=over, progress=progress
            )
        if dry_run:
            _answer(found, skip_invalid, json_output)
            return
        _require_startable(found, skip_invalid, json_output)
        ended = make(found, settings, options, place, report=report)
    ended.tell(json_output)


app.command("status")(batch_jobs.status)
app.command("retry")(batch_jobs.retry)
app.command("cancel")(batch_jobs.cancel)


@app.command("report")
def report_(
    name: Annotated[str, typer.Argument(help="The batch's name, or its beginning.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Another folder than the batch's.", show_default=False),
    ] = None,
    sheets: Annotated[
        bool,
        typer.Option("--sheets/--no-sheets", help="Look into the videos for strips of frames."),
    ] = True,
    json_output: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Write the report of a batch: a page, a table and a document, into its folder."""
    batch_report.show(name, folder=out, sheets=sheets, json_output=json_output)


def _require_startable(found: Validation, skip_invalid: bool, json_output: bool) -> None:
    """End the command where the manifest is not clean, with all that is wrong with it."""
    try:
        found.require_startable(skip_invalid=skip_invalid)
    except InvalidRequest as refused:
        if json_output:
            emit({**failure(refused), **found.to_json()})
            raise typer.Exit(refused.exit_status) from refused
        _show_problems(found)
        fail(refused, json_output)
    if found.skipped is not None:
        _show_problems(found, "this command with --dry-run --json")
        say(f"{found.skipped}")
    for note in found.notes:
        say(printable(f"note: {note}"))


def _answer(found: Validation, skip_invalid: bool, json_output: bool) -> None:
    """What a dry run found, and the exit status: 0 where the batch could start, else 2."""
    refused: InvalidRequest | None = None
    try:
        found.require_startable(skip_invalid=skip_invalid)
    except InvalidRequest as error:
        refused = error
    if json_output:
        document = {"success": True} if refused is None else failure(refused)
        emit({**document, "dry_run": True, **found.to_json()})
        raise typer.Exit(0 if refused is None else refused.exit_status)
    _show_problems(found)
    for note in found.notes:
        say(printable(f"note: {note}"))
    _show_forecast(found)
    if refused is not None:
        fail(refused, json_output)


def _show_problems(found: Validation, all_of_them: str = "--json") -> None:
    for problem in found.problems[:_SHOWN]:
        say(printable(f"{problem}. {problem.hint}"))
    if len(found.problems) > _SHOWN:
        say(f"... and {len(found.problems) - _SHOWN:,} more; {all_of_them} tells all of them")


def _show_forecast(found: Validation) -> None:
    from svd_local.batch.counting import counted
    from svd_local.request import format_bytes

    forecast = found.forecast.to_json(found.out)
    name, rows = found.manifest.path.name, counted(found.rows, "row")
    tell(printable(f"{name}: {rows}, {found.good_jobs:,} of {counted(found.jobs, 'clip')} good"))
    for state, count in forecast["over"].items():
        tell(
            f"  {count:,} of {found.good_jobs:,} {_OVER[state].format('is' if count == 1 else 'are')}"
        )
    if not found.forecast.clips:
        return
    for group in forecast["groups"]:
        by = " ".join(str(group[key]) for key in ("tier", "checkpoint", "speed") if group[key])
        each = group["seconds_per_clip"]
        line = f"  {group['clips']:,} by {by}"
        line += "" if group["kind"] is None else f", {group['kind']}"
        line += ": seconds per clip not known yet" if each is None else f": one every {each:.1f} s"
        if group["predicted_peak_bytes"] is not None:
            peak = format_bytes(group["predicted_peak_bytes"])
            line += f", {peak} of memory ({group['memory_plan']})"
        tell(printable(line))
    seconds = forecast["seconds"]
    tell(
        "time: not known; the catalog has no such clips to go by"
        if seconds is None
        else f"time: about {_duration(seconds)}{_by(forecast)}, going by the catalog's medians"
    )
    measured = all(group["bytes_measured"] for group in forecast["groups"])
    by = "going by the catalog's averages" if measured else "estimated, rather too high"
    tell(
        f"disk: about {format_bytes(forecast['bytes'])} ({by}), "
        f"{format_bytes(forecast['free_bytes'])} are free"
    )
    if forecast["bytes"] > forecast["free_bytes"]:
        say("note: that is more than is free where the files go")
    for checkpoint, licence in forecast["licences"].items():
        tell(printable(f"licence of {checkpoint}: {licence}"))
    for remark in forecast["remarks"]:
        say(printable(f"note: {remark}"))


def _by(forecast: dict[str, Any]) -> str:
    """Who takes that long, where it is not one worker with its usual lanes."""
    return f" by {forecast['workers']} workers" if forecast["workers"] > 1 else ""


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{hours} h"


@contextmanager
def _counting() -> Iterator[Any]:
    """A line that counts rows, where somebody is looking."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("validating") as status:
        yield lambda rows: status.update(f"validating, row {rows:,}")
